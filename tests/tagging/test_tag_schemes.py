"""Entities and their tags, in every scheme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.tagging.tag_schemes import EntitySpan, bio_tags, detect_scheme, entity_spans

KINDS = ["A", "B", "O", "I-A", "Kind with spaces"]
"""Kinds of entities; some look like tags."""


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[EntitySpan], int]:
    """Entities of a sentence, some of them adjacent, and its length."""
    spans, position = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(KINDS)), max_size=6)
    ):
        start = position + gap
        position = start + length
        spans.append((start, position, kind))
    return spans, position + draw(st.integers(0, 2))


def written(spans: list[EntitySpan], length: int, scheme: str) -> list[str]:
    """Return tags in a scheme. First, inside, last and only words of an entity have the letters of its name."""
    tags = ["O"] * length
    before: EntitySpan | None = None
    for span in spans:
        start, end, kind = span
        adjacent = before is not None and before[1] == start and before[2] == kind
        letters = {
            "IO": "IIII",
            "IOB1": "BIIB" if adjacent else "IIII",
            "BIO": "BIIB",
            "IOBES": "BIES",
            "BILOU": "BILU",
            "BMES": "BMES",
        }[scheme]
        for word in range(start, end):
            which = 3 if end - start == 1 else 0 if word == start else 2 if word == end - 1 else 1
            tags[word] = f"{letters[which]}-{kind}"
        before = span
    return tags


@pytest.mark.parametrize("scheme", ["IOB1", "BIO", "IOBES", "BILOU", "BMES"])
@given(sentence=sentences())
def test_entities_survive_every_scheme(scheme: str, sentence: tuple[list[EntitySpan], int]) -> None:
    spans, length = sentence
    assert entity_spans(written(spans, length, scheme)) == spans
    assert entity_spans(bio_tags(spans, length)) == spans
    assert bio_tags(spans, length) == written(spans, length, "BIO")


@given(sentence=sentences())
def test_io_joins_adjacent_entities_of_one_kind_and_nothing_else(sentence: tuple[list[EntitySpan], int]) -> None:
    spans, length = sentence
    joined: list[EntitySpan] = []
    for start, end, kind in spans:
        if joined and joined[-1][1:] == (start, kind):
            joined[-1] = (joined[-1][0], end, kind)
        else:
            joined.append((start, end, kind))
    assert entity_spans(written(spans, length, "IO")) == joined


def test_entities_of_inconsistent_tags() -> None:
    """As taggers without constraints predict them: I and E begin an entity where none of their kind is open."""
    assert entity_spans(["I-A", "B-A", "I-B"]) == [(0, 1, "A"), (1, 2, "A"), (2, 3, "B")]
    assert entity_spans(["E-A", "E-A", "S-A", "I-A"]) == [(0, 1, "A"), (1, 2, "A"), (2, 3, "A"), (3, 4, "A")]
    assert entity_spans(["L-A", "L-A", "U-A", "I-A"]) == [(0, 1, "A"), (1, 2, "A"), (2, 3, "A"), (3, 4, "A")]
    assert entity_spans(["O"]) == entity_spans([]) == []


@pytest.mark.parametrize("tag", ["LOC", "B", "B-", "o", "b-A", "X-A", "", "_"])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(CharEmbedError, match=f"entity tags must be O, B-KIND or I-KIND, got '{tag}'"):
        entity_spans(["O", tag])


@pytest.mark.parametrize("scheme", ["IO", "IOB1", "BIO", "IOBES", "BILOU", "BMES"])
def test_schemes_are_detected(scheme: str) -> None:
    spans = [(0, 3, "A"), (3, 4, "A"), (5, 6, "B"), (6, 7, "A")]
    assert detect_scheme([["O"], written(spans, 8, scheme), []]) == scheme


def test_one_wrong_begin_is_not_iob1() -> None:
    assert detect_scheme([["B-A", "I-A"], ["O", "I-A"]]) == "BIO"
    assert detect_scheme([["B-A", "B-A"], ["O", "B-A"]]) == "BIO"
    assert detect_scheme([["I-A", "B-A"], ["O", "I-A"]]) == "IOB1"
