"""Receives readings of any lengths; hands on which of them run side by side, and how far they run at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.passage import Reading

CHUNK_CHARACTERS = 8192
"""Characters computed at a time: bounds the memory for states, whatever the length of the texts."""
FEW = 8
"""Above so many readings side by side, their number is a multiple of it: products of every new shape take time to set
up."""


def make_batches(readings: Sequence[Reading], size: int, at_least: int = 1) -> list[list[int]]:
    """Readings of like length together, as indices, the longest first; those of which nothing is wanted in none.

    Args:
        readings: what is to be read.
        size: of a batch at most. All have nearly the same.
        at_least: how many batches to make where there are enough readings to keep so many threads busy.
    """
    lengths = np.array([reading.length for reading in readings], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    count = max(-(-len(order) // size), min(at_least, len(order) // FEW))
    return [part.tolist() for part in np.array_split(order, max(count, 1)) if len(part)]


def plan_chunks(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """How a batch runs: from which character to which, and how many of its readings.

    A chunk ends when a sixteenth of them have ended, which the next one runs without.

    Args:
        lengths: the longest first. Shape: (readings,)

    Yields:
        First character, one past the last, readings: never more than before, the longest ones.
    """
    start = 0
    while start < lengths[0]:
        active = int(np.count_nonzero(lengths > start))
        columns = active if active <= FEW else min(len(lengths), -(-active // FEW) * FEW)
        stop = min(int(lengths[active - 1 - active // 16]), start + max(1, CHUNK_CHARACTERS // columns))
        yield start, stop, columns
        start = stop
