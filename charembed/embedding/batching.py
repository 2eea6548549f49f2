"""Group readings of similar length into batches, and divide each batch into chunks of characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.limits import DEFAULT_LIMITS, EmbeddingLimits
from charembed.embedding.passage import Reading
from charembed.text.vocab import Ids

Encode = Callable[[str], Ids]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Characters that the readings of a batch have next, and the positions among them whose states are needed."""

    ids: Ids
    """Characters of the first, longest readings, padded with 0. Shape: (characters, readings)"""
    selected: NDArray[np.int64]
    """Which of the batch's positions lie in this chunk, as indices into the concatenated positions of all its readings.
    Shape: (selected,)"""
    flat_positions: NDArray[np.int64]
    """Where those positions lie in the flattened `ids`: character · readings + reading. Shape: (selected,)"""


def make_batches(
    readings: Sequence[Reading], size: int, at_least: int = 1, min_size: int = DEFAULT_LIMITS.column_multiple
) -> list[list[int]]:
    """Group readings of similar length.

    Args:
        readings: what is to be read.
        size: maximum number of readings in a batch. All batches have nearly the same size.
        at_least: number of batches to make to keep that many threads busy, as long as none is smaller than `min_size`.
        min_size: minimum size of the batches made for `at_least`.

    Returns:
        The batches as indices into `readings`, longest readings first. Readings without positions are in none.
    """
    lengths = np.array([reading.length for reading in readings], dtype=np.int64)
    # Readings without positions have length 0 and sort last: the slice drops them.
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    count = max(-(-len(order) // size), min(at_least, len(order) // min_size))
    return [batch.tolist() for batch in np.array_split(order, max(count, 1)) if len(batch)]


def plan_chunks(lengths: NDArray[np.int64], limits: EmbeddingLimits = DEFAULT_LIMITS) -> Iterator[tuple[int, int, int]]:
    """Divide a batch into chunks, each of which runs only the readings that have not ended.

    A chunk ends when a sixteenth of its readings have ended, or when it has `limits.chunk_characters`.

    Args:
        lengths: lengths of the readings, the longest first. Shape: (readings,)
        limits: gives the maximum size of a chunk and the multiple to which its readings are padded.

    Yields:
        First character, one past the last character, and number of readings, which never increases.
    """
    multiple = limits.column_multiple
    start = 0
    while start < lengths[0]:
        active = int(np.count_nonzero(lengths > start))
        columns = active if active <= multiple else min(len(lengths), -(-active // multiple) * multiple)
        # Each chunk has fixed costs: a few ended readings are computed further rather than dropped at once.
        sixteenth_ended = int(lengths[active - 1 - active // 16])
        stop = min(sixteenth_ended, start + max(1, limits.chunk_characters // columns))
        yield start, stop, columns
        start = stop


def iter_chunks(
    readings: Sequence[Reading], encode: Encode, limits: EmbeddingLimits = DEFAULT_LIMITS
) -> Iterator[Chunk]:
    """Divide a batch of readings into chunks of encoded characters.

    Args:
        readings: the longest first; each has at least one position.
        encode: maps characters to ids.
        limits: bounds the size of a chunk.
    """
    # All characters in one array, reading after reading.
    lengths = np.array([reading.length for reading in readings])
    encoded = encode("".join(reading.read(0, reading.length) for reading in readings))
    firsts = np.cumsum(lengths) - lengths
    # All positions in one array, with the column (reading) of each. Sorted by character, the positions of a chunk are
    # adjacent.
    positions = np.concatenate([reading.positions for reading in readings])
    columns = np.repeat(np.arange(len(readings)), [len(reading.positions) for reading in readings])
    by_character = np.argsort(positions, kind="stable")
    for start, stop, active in plan_chunks(lengths, limits):
        offsets = np.arange(start, stop)[:, None]
        ids = encoded.take(firsts[:active] + offsets, mode="clip")
        ids[offsets >= lengths[:active]] = 0
        selected = by_character[slice(*np.searchsorted(positions, [start, stop], sorter=by_character))]
        yield Chunk(ids, selected, (positions[selected] - start) * active + columns[selected])
