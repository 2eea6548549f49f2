"""Context before and after each text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError, Context
from charembed.embedding.context import iter_passages
from charembed.text.words import SpannedText


def contexts_of(texts: list[str], context: Context) -> list[tuple[str, str]]:
    passages = list(iter_passages(map(SpannedText.of, texts), context))
    assert [passage.text for passage in passages] == texts
    return [(passage.before, passage.after) for passage in passages]


def test_sentences_before_and_after() -> None:
    assert contexts_of(["A.", "B.", "C.", "D."], Context(sentences=2)) == [
        ("", " B. C."),
        ("A. ", " C. D."),
        ("A. B. ", " D."),
        ("B. C. ", ""),
    ]


def test_a_blank_text_ends_a_document() -> None:
    assert contexts_of(["A.", "B.", " \t", "C.", "", "", "D."], Context(sentences=3)) == [
        ("", " B."),
        ("A. ", ""),
        ("", ""),
        ("", ""),
        ("", ""),
        ("", ""),
        ("", ""),
    ]


def test_characters_are_cut_to_whole_words() -> None:
    texts = ["one two three", "four five", "six"]
    assert contexts_of(texts, Context(characters=11)) == [
        ("", " four five"),
        ("two three ", " six"),
        ("four five ", ""),
    ]
    assert contexts_of(texts, Context(characters=10))[1] == ("two three ", " six")
    assert contexts_of(texts, Context(characters=9))[1] == ("three ", " six")
    assert contexts_of(texts, Context(characters=6))[1] == ("three ", " six")
    assert contexts_of(["東京は日本の首都", "人口は多い"], Context(characters=4)) == [("", " 人口は"), ("の首都 ", "")]


def test_the_joiner_is_between_texts() -> None:
    assert contexts_of(["A.", "B."], Context(sentences=1, joiner="\n")) == [("", "\nB."), ("A.\n", "")]


@given(st.lists(st.text("ab \n", max_size=8), max_size=8), st.integers(1, 12))
def test_characters_are_the_nearest_ones(texts: list[str], count: int) -> None:
    for position, (before, after) in enumerate(contexts_of(texts, Context(characters=count))):
        has_content = [bool(text.strip()) for text in texts]
        if not has_content[position]:
            assert before == after == ""
            continue
        start = max((k + 1 for k in range(position) if not has_content[k]), default=0)
        stop = min((k for k in range(position, len(texts)) if not has_content[k]), default=len(texts))
        left = "".join(f"{text} " for text in texts[start:position])
        right = "".join(f" {text}" for text in texts[position + 1 : stop])
        assert len(before) <= count
        assert len(after) <= count
        assert left.endswith(before)
        assert right.startswith(after)
        if len(left) <= count:
            assert before == left
        if len(right) <= count:
            assert after == right


@pytest.mark.parametrize(("context", "ahead"), [(Context(sentences=2), 3), (Context(characters=9), 3)])
def test_no_more_is_read_ahead_than_needed(context: Context, ahead: int) -> None:
    taken = 0

    def endless():
        nonlocal taken
        for _ in itertools.count():
            taken += 1
            yield SpannedText.of("four.")

    stream = iter_passages(endless(), context)
    for number in range(50):
        next(stream)
        assert taken <= number + ahead


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either characters or sentences, got characters=None and sentences=None"),
        ({"characters": 1, "sentences": 1}, "either characters or sentences, got characters=1 and sentences=1"),
        ({"characters": 0}, "context characters must be a positive whole number, got 0"),
        ({"sentences": 1.5}, "context sentences must be a positive whole number, got 1.5"),
    ],
)
def test_invalid_contexts_are_refused(options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        Context(**options)
