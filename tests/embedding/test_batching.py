"""Batches of readings of similar length, and the chunks in which they are read."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charembed.embedding.batching import make_batches, plan_chunks
from charembed.embedding.limits import EmbeddingLimits
from charembed.embedding.passage import Reading


def readings(lengths: list[int]) -> list[Reading]:
    return [
        Reading("", "x" * length, False, np.array([length - 1] if length else [], dtype=np.int64)) for length in lengths
    ]


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 64), st.integers(1, 9))
def test_every_reading_is_in_one_batch_with_others_of_similar_length(
    lengths: list[int], size: int, at_least: int
) -> None:
    result = make_batches(readings(lengths), size, at_least)
    members = [k for batch in result for k in batch]
    assert sorted(members) == [k for k, length in enumerate(lengths) if length]
    assert [lengths[k] for k in members] == sorted(filter(None, lengths), reverse=True)
    assert all(0 < len(batch) <= size for batch in result)
    assert not result or max(map(len, result)) - min(map(len, result)) <= 1


@given(st.lists(st.integers(1, 500), min_size=1, max_size=100), st.integers(1, 3000))
def test_chunks_cover_every_character_and_little_else(lengths: list[int], budget: int) -> None:
    lengths = sorted(lengths, reverse=True)
    limits = EmbeddingLimits(chunk_characters=budget)
    result = list(plan_chunks(np.array(lengths), limits))
    assert [start for start, _, _ in result] == [0, *(stop for _, stop, _ in result[:-1])]
    assert result[-1][1] == lengths[0]
    for (start, stop, columns), (_, _, after) in zip(result, [*result[1:], (0, 0, 0)], strict=True):
        assert columns >= sum(length > start for length in lengths)
        assert (stop - start) * columns <= max(budget, columns)
        assert after <= columns
    # Up to a sixteenth of the readings that run may have ended, and their number is rounded up to a multiple of 8.
    computed = sum((stop - start) * columns for start, stop, columns in result)
    assert computed <= sum(lengths) / (1 - 1 / 16) + (limits.column_multiple - 1) * lengths[0] + 1
