"""Embed a passage that is too long to hold all its vectors in memory, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.engine import Vectors
from charembed.embedding.passage import Reading
from charembed.embedding.state_reader import StateReader
from charembed.lm.model import Direction
from charembed.text.words import Spans
from charembed.util.workers import WorkerPool

_NO_POSITIONS = np.empty(0, dtype=np.int64)


def can_be_split(spans: Spans) -> bool:
    """Return whether the words are non-empty, in order and do not overlap, so that they can be read in parts."""
    starts, ends = spans.T
    return bool((starts < ends).all() and (ends[:-1] <= starts[1:]).all())


class PartReader:
    """Reads a passage in parts of consecutive words. Each model carries its state from part to part.

    The backward model starts at the end of the passage. It reads all of it once to save its state at the end of each
    part, and reads each part again, from the saved state, when that part is due.
    """

    def __init__(
        self,
        reader: StateReader,
        pool: WorkerPool,
        readings: dict[Direction, Reading],
        spans: Spans,
        max_words: int,
        part_characters: int,
    ) -> None:
        """
        Args:
            reader: reads text with an engine.
            pool: threads on which both directions run at the same time.
            readings: the reading of each direction that is part of the vectors; perhaps none.
            spans: spans of the words, of which there is at least one; see `can_be_split`. Shape: (words, 2)
            max_words: maximum number of words in a part.
            part_characters: maximum length of a part of more than one word, in characters.
        """
        self._reader = reader
        self._pool = pool
        self._readings = readings
        self._bounds = _part_bounds(spans, max_words, part_characters)
        # States from which parts are read; a missing one is the zero state.
        self._states: dict[tuple[Direction, int], Any] = {}

    def __iter__(self) -> Iterator[tuple[slice, dict[Direction, Vectors]]]:
        """Yield the words of each part as a slice, with the states of each direction.

        Shape: (words, output_size) each
        """
        parts = range(len(self._bounds) - 1)
        # First pass: the backward model's state at the end of each part but the last, where it starts from zero.
        if "backward" in self._readings:
            for part in reversed(parts[1:]):
                self._pool.map(self._save_backward_state, [part])
        # Second pass: both models read each part.
        for part in parts:
            states = self._pool.map(self._read, [(direction, part) for direction in self._readings])
            by_direction = {direction: vectors for (direction, _), vectors in states.items()}
            yield slice(self._bounds[part], self._bounds[part + 1]), by_direction

    def _save_backward_state(self, part: int) -> None:
        """Read a part with the backward model and save the state from which the part before it is read."""
        start, stop = self._characters_of("backward", part)
        state = self._states.get(("backward", part))
        _, self._states["backward", part - 1] = self._run("backward", start, stop, state, _NO_POSITIONS)

    def _read(self, item: tuple[Direction, int]) -> Vectors:
        direction, part = item
        start, stop = self._characters_of(direction, part)
        positions = self._readings[direction].positions[self._bounds[part] : self._bounds[part + 1]] - start
        state = self._states.pop(item, None)
        if direction == "backward":  # it meets the words in reverse order
            return self._run(direction, start, stop, state, positions[::-1])[0][::-1]
        vectors, self._states[direction, part + 1] = self._run(direction, start, stop, state, positions)
        return vectors

    def _run(
        self, direction: Direction, start: int, stop: int, state: Any, positions: NDArray[np.int64]
    ) -> tuple[Vectors, Any]:
        text = self._readings[direction].read(start, stop)
        return self._reader.read_on(direction, text, state, positions)

    def _characters_of(self, direction: Direction, part: int) -> tuple[int, int]:
        """Return which characters are read for a part: those after the part read before, up to its own last position.

        Positions ascend with the words in the forward reading and descend in the backward reading.
        """
        positions = self._readings[direction].positions
        first, last = self._bounds[part], self._bounds[part + 1] - 1
        if direction == "forward":
            return (int(positions[first - 1]) + 1 if first else 0), int(positions[last]) + 1
        return (int(positions[last + 1]) + 1 if last + 1 < len(positions) else 0), int(positions[first]) + 1


def _part_bounds(spans: Spans, max_words: int, part_characters: int) -> list[int]:
    """Return the index of each part's first word, and the number of words as the last element."""
    bounds = [0]
    while bounds[-1] < len(spans):
        first = bounds[-1]
        reached = int(np.searchsorted(spans[:, 1], spans[first, 0] + part_characters))
        bounds.append(min(len(spans), first + max_words, max(reached, first + 1)))
    return bounds
