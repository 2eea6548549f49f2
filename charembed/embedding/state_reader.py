"""Read text with an engine and collect the hidden states at the positions of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.batching import Encode, iter_chunks
from charembed.embedding.engine import Engine, Vectors
from charembed.embedding.limits import DEFAULT_LIMITS, EmbeddingLimits
from charembed.embedding.passage import Reading
from charembed.lm.model import Direction
from charembed.util.workers import check_cancelled


class StateReader:
    """Reads characters with an engine, chunk by chunk, and keeps only the states at the positions of words."""

    def __init__(self, engine: Engine, encode: Encode, limits: EmbeddingLimits = DEFAULT_LIMITS) -> None:
        """
        Args:
            engine: runs the models.
            encode: maps characters to ids.
            limits: bounds the characters in one call of the engine.
        """
        self._engine = engine
        self._encode = encode
        self._limits = limits

    def read_batch(self, direction: Direction, readings: Sequence[Reading]) -> list[Vectors]:
        """Read a batch of readings, each from the zero state.

        Args:
            direction: which model reads.
            readings: the longest first; each has at least one position.

        Returns:
            The states at the positions, one array per reading. Shape: (words, output_size) each
        """
        counts = [len(reading.positions) for reading in readings]
        states: Vectors | None = None
        state = None
        for chunk in iter_chunks(readings, self._encode, self._limits):
            check_cancelled()
            vectors, state = self._engine.run(direction, chunk.ids, state, chunk.flat_positions)
            if states is None:  # the engine knows the width of a state
                states = np.empty((sum(counts), vectors.shape[1]), dtype=np.float32)
            states[chunk.selected] = vectors
        assert states is not None
        return np.split(states, np.cumsum(counts)[:-1])

    def read_on(self, direction: Direction, text: str, state: Any, positions: NDArray[np.int64]) -> tuple[Vectors, Any]:
        """Read one text, continuing from a state.

        Args:
            direction: which model reads.
            text: the characters to read, all of them, in the order of reading.
            state: state returned by an earlier call; None to start from the zero state.
            positions: positions in `text` whose states to return, in ascending order. Shape: (words,)

        Returns:
            The states at the positions, and the state after the last character. Shape: (words, output_size)
        """
        size = self._limits.chunk_characters
        collected = []
        for start in range(0, len(text), size):
            check_cancelled()
            ids = self._encode(text[start : start + size])
            first, last = np.searchsorted(positions, [start, start + len(ids)])
            vectors, state = self._engine.run(direction, ids[:, None], state, positions[first:last] - start)
            collected.append(vectors)
        return np.concatenate(collected), state
