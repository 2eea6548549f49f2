"""What is held out: about as much as was asked for, and nothing that is trained on too."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charembed.dataset.split import DocumentIndex, choose_documents, cut_passages


def test_a_document_longer_than_the_share_is_never_held_out() -> None:
    lengths = np.array([10_000, 100, 100, 100, 100])
    chosen = choose_documents(lengths, np.full(5, True), 200, seed=1)
    assert chosen is not None
    assert not chosen[0]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50), st.integers(0, 2000), st.integers(0, 3))
def test_held_out_choice_is_close_to_what_is_wanted_or_none(lengths: list[int], size: int, seed: int) -> None:
    eligible = np.arange(len(lengths)) % 3 > 0
    chosen = choose_documents(np.array(lengths), eligible, size, seed)
    if chosen is not None:
        assert not (chosen & ~eligible).any()
        held = int(np.array(lengths)[chosen].sum())
        assert 0.5 * size <= held <= 1.5 * size
        assert 0 < held < sum(lengths)


@given(st.lists(st.integers(0, 4), max_size=300), st.integers(1, 40))
def test_passages_put_together_are_the_text(ids: list[int], length: int) -> None:
    text = np.array(ids, dtype=np.uint16)
    parts = list(cut_passages(text, length, (1, 2)))
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert [*(parts[:1] and [parts[0][0]]), *(parts[-1:] and [parts[-1][1]])] == ([0, len(ids)] if ids else [])
    for start, end in parts:
        assert 0 < end - start <= 2 * length
        within_reach = text[start + length : min(start + 2 * length, len(text))]
        if end < len(text) and np.isin([1, 2], within_reach).any():
            assert text[end - 1] in (1, 2), "cut where a line or a word ends"
        if end < len(text) and 1 in within_reach:
            assert text[end - 1] == 1, "rather at the end of a line"


@given(st.lists(st.binary(max_size=3), max_size=20))
def test_the_index_knows_places_and_what_is_there_twice(pieces: list[bytes]) -> None:
    index = DocumentIndex()
    for piece in pieces:
        index.add(piece, len(piece))
    whole = b"".join(pieces)
    assert [whole[start:end] for start, end in index.bounds()] == pieces
    assert index.occurs_once().tolist() == [pieces.count(piece) == 1 for piece in pieces]
