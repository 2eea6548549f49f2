"""Tests of epochs and windows: each character once per epoch, each target one character after its input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.dataset.windows import EpochText, WindowStream

DOCUMENTS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def epoch_text(lengths: list[int], seed: int = 0, epoch: int = 0) -> EpochText:
    """Documents of the given lengths in which each character has an id of its own."""
    ends = np.cumsum(lengths)
    ids = np.arange(ends[-1], dtype=np.uint16)
    return EpochText(ids, np.stack([ends - lengths, ends], axis=1), seed, epoch)


@given(DOCUMENTS, st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_holds_each_document_whole_and_once(lengths: list[int], seed: int, epoch: int) -> None:
    text = epoch_text(lengths, seed, epoch)
    read = text.read(0, text.length)
    assert sorted(read.tolist()) == list(range(sum(lengths)))
    ends = set(np.cumsum(lengths).tolist())
    breaks = [k for k in range(len(read)) if read[k] != read[k - 1] + 1]
    assert len(breaks) <= len(lengths)
    for k in breaks:
        assert int(read[k - 1]) + 1 in ends, "the order jumps only at the ends of documents"


@given(DOCUMENTS, st.integers(0, 200), st.integers(0, 100))
def test_any_range_can_be_read(lengths: list[int], start: int, length: int) -> None:
    text = epoch_text(lengths)
    whole = np.tile(text.read(0, text.length), 2 + (start + length) // text.length)
    assert np.array_equal(text.read(start, start + length), whole[start : start + length])


def test_each_epoch_and_seed_has_its_own_order() -> None:
    orders = {tuple(epoch_text([5] * 50, seed, epoch).read(0, 250).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    one = epoch_text([1000], seed=0, epoch=0).read(0, 5)
    two = epoch_text([1000], seed=0, epoch=1).read(0, 5)
    assert one[0] != two[0], "a single document starts at different positions"


@given(
    length=st.integers(20, 2000),
    batch_size=st.integers(1, 4),
    seq_len=st.integers(1, 5),
    world_size=st.integers(1, 3),
    backward=st.booleans(),
)
def test_windows_continue_the_ones_before(
    length: int, batch_size: int, seq_len: int, world_size: int, backward: bool
) -> None:
    lanes = batch_size * world_size
    if length < lanes * seq_len:
        return
    text = epoch_text([length])
    after = -1 if backward else 1
    seen: list[int] = []
    for rank in range(world_size):
        stream = WindowStream(text, batch_size, seq_len, backward=backward, rank=rank, world_size=world_size)
        windows = [stream.window(k) for k in range(stream.windows)]
        for k, window in enumerate(windows):
            assert window.inputs.shape == window.targets.shape == (seq_len, batch_size)
            assert ((window.inputs + after) % length == window.targets).all(), "a target is the next character"
            if k:
                assert (window.inputs[0] == windows[k - 1].targets[-1]).all(), "lanes continue"
            seen += window.inputs.flatten().tolist()
        first = stream.window(0)
        assert (first.inputs == windows[0].inputs).all(), "windows can be read in any order"
    assert len(set(seen)) == len(seen), "no character occurs twice, in one process or two"
    assert len(seen) > length - lanes * (seq_len + 1), "only the ends of lanes are left out"


def test_corpus_too_small_for_the_batch() -> None:
    assert WindowStream(epoch_text([40]), 4, 10).windows == 1
    with pytest.raises(CharEmbedError, match="39 characters to train on, batch_size 4 × seq_len 10 needs 40"):
        WindowStream(epoch_text([39]), 4, 10)
    with pytest.raises(CharEmbedError, match="batch_size 4 × seq_len 10 × 2 processes needs 80"):
        WindowStream(epoch_text([79]), 4, 10, world_size=2)
