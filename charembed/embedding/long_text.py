"""Receives a passage too long to be held with all its vectors; hands them on part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.engine import Encode, Engine, Vectors, read_on
from charembed.embedding.passage import Reading
from charembed.lm.model import Direction
from charembed.text.words import Spans
from charembed.util.workers import WorkerPool

PART_CHARACTERS = 1_000_000
"""A part is not much longer, however few words stand in it."""


def stand_apart(spans: Spans) -> bool:
    """Whether words follow each other, as `find_words` has them: only then can they be read in parts."""
    starts, ends = spans.T
    return bool((starts < ends).all() and (ends[:-1] <= starts[1:]).all())


class PartReader:
    """Reads a passage in parts of some words, with both models' states carried on from part to part.

    The backward model begins at the end: it reads the whole passage once to leave its state at the end of every part,
    and from there each part when its turn comes.
    """

    def __init__(
        self,
        engine: Engine,
        pool: WorkerPool,
        encode: Encode,
        readings: dict[Direction, Reading],
        spans: Spans,
        words: int,
    ) -> None:
        """
        Args:
            engine: what runs the models.
            pool: where both run at once.
            encode: characters to ids.
            readings: of each direction there is.
            spans: of the words, apart and in order; at least one. Shape: (words, 2)
            words: of a part at most.
        """
        self._engine, self._pool, self._encode = engine, pool, encode
        self._readings = readings
        self._bounds = [0]
        while self._bounds[-1] < len(spans):
            first = self._bounds[-1]
            reach = int(np.searchsorted(spans[:, 1], spans[first, 0] + PART_CHARACTERS))
            self._bounds.append(min(len(spans), first + words, max(reach, first + 1)))
        self._states: dict[tuple[Direction, int], Any] = {}

    def __iter__(self) -> Iterator[tuple[slice, Vectors]]:
        """Which words, and their vectors. Shape: (words, embedding_dim)"""
        parts = range(len(self._bounds) - 1)
        if "backward" in self._readings:
            for part in reversed(parts):
                self._pool.map(self._leave_state, [part])
        for part in parts:
            halves = self._pool.map(self._read, [(direction, part) for direction in self._readings])
            yield slice(self._bounds[part], self._bounds[part + 1]), np.concatenate(list(halves.values()), axis=1)

    def _leave_state(self, part: int) -> None:
        """Run the backward model over a part, for its state alone."""
        start, stop = self._stretch("backward", part)
        nowhere = np.empty(0, dtype=np.int64)
        before = self._states.setdefault(("backward", part), None)
        if part:
            _, self._states["backward", part - 1] = self._run("backward", start, stop, before, nowhere)

    def _read(self, item: tuple[Direction, int]) -> Vectors:
        direction, part = item
        start, stop = self._stretch(direction, part)
        positions = self._readings[direction].positions[self._bounds[part] : self._bounds[part + 1]] - start
        state = self._states.pop(item, None)
        if direction == "backward":
            return self._run(direction, start, stop, state, positions[::-1])[0][::-1]
        vectors, self._states[direction, part + 1] = self._run(direction, start, stop, state, positions)
        return vectors

    def _run(
        self, direction: Direction, start: int, stop: int, state: Any, positions: NDArray[np.int64]
    ) -> tuple[Vectors, Any]:
        text = self._readings[direction].read(start, stop)
        return read_on(self._engine, direction, text, state, positions, self._encode)

    def _stretch(self, direction: Direction, part: int) -> tuple[int, int]:
        """Characters read for a part: from the end of what has been read before to the last one wanted."""
        positions = self._readings[direction].positions
        first, last = self._bounds[part], self._bounds[part + 1] - 1
        if direction == "forward":
            return (int(positions[first - 1]) + 1 if first else 0), int(positions[last]) + 1
        return (int(positions[last + 1]) + 1 if last + 1 < len(positions) else 0), int(positions[first]) + 1
