"""Tests of the validation split: about as much text as requested, none of which is trained on too."""

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
def test_chosen_documents_have_about_the_requested_size(lengths: list[int], size: int, seed: int) -> None:
    eligible = np.arange(len(lengths)) % 3 > 0
    chosen = choose_documents(np.array(lengths), eligible, size, seed)
    if chosen is not None:
        assert not (chosen & ~eligible).any()
        characters = int(np.array(lengths)[chosen].sum())
        assert 0.5 * size <= characters <= 1.5 * size
        assert 0 < characters < sum(lengths)


@given(st.lists(st.integers(0, 4), max_size=300), st.integers(1, 40))
def test_passages_together_are_the_document(ids: list[int], length: int) -> None:
    text = np.array(ids, dtype=np.uint16)
    passages = list(cut_passages(text, length, (1, 2)))
    offsets = [offset for passage in passages for offset in passage]
    assert offsets[1:-1:2] == offsets[2::2], "each passage begins where the last one ended"
    assert offsets[:1] + offsets[-1:] == ([0, len(ids)] if ids else [])
    for start, end in passages:
        assert 0 < end - start <= 2 * length
        within_reach = text[start + length : min(start + 2 * length, len(text))]
        if end < len(text) and np.isin([1, 2], within_reach).any():
            assert text[end - 1] in (1, 2), "cut at the end of a line or word"
        if end < len(text) and 1 in within_reach:
            assert text[end - 1] == 1, "ends of lines are preferred"


@given(st.lists(st.binary(max_size=3), max_size=20))
def test_index_of_bounds_and_repeated_documents(documents: list[bytes]) -> None:
    index = DocumentIndex()
    for document in documents:
        index.add(document, len(document))
    stream = b"".join(documents)
    assert [stream[start:end] for start, end in index.bounds()] == documents
    assert index.is_unique().tolist() == [documents.count(document) == 1 for document in documents]
