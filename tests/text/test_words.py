"""Finding words: offsets that point at them, on any text."""

from __future__ import annotations

import numpy as np
import pytest
import regex
from helpers import AWKWARD_TEXTS
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.text.words import SpannedText, find_words


def words_of(text: str) -> list[str]:
    return SpannedText.of(text).words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t", []),
        ("Don't stop, it's 3.14!", ["Don't", "stop", ",", "it's", "3.14", "!"]),
        ("two  spaces,\ttab\nnew ", ["two", "spaces", ",", "tab", "new"]),
        ("l’été well-known", ["l’été", "well", "-", "known"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("👩‍🔬👨‍👩‍👧 ok🇩🇪🇫🇷👍🏽", ["👩‍🔬", "👨‍👩‍👧", "ok", "🇩🇪", "🇫🇷", "👍🏽"]),
        ("a\u200bb \u200b \u200ec", ["a", "b", "c"]),
        ("שלום, עולם", ["שלום", ",", "עולם"]),
        ("東京は", ["東", "京", "は"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("İ x\xa0y", ["İ", "x", "y"]),
        ("a\ud800b", ["a", "\ud800", "b"]),
        ("...", [".", ".", "."]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.one_of(st.text(st.characters()), st.sampled_from(AWKWARD_TEXTS)))
def test_words_are_in_order_apart_and_all_that_shows(text: str) -> None:
    spans = find_words(text)
    end = 0
    for start, stop in spans:
        assert end <= start < stop <= len(text)
        assert not text[start].isspace()
        assert not any(c.isspace() for c in text[start:stop]), "no white space inside a word"
        end = stop
    covered = {k for start, stop in spans for k in range(start, stop)}
    for k, character in enumerate(text):
        assert k in covered or character.isspace() or not character.isprintable() or character == "\u200b", character


@given(st.text("🇩🇪🇫a1.' \u200d\u0301👩🏽\u200bア\n\ufe0f"))
def test_flags_are_found_where_unicode_s_boundaries_are(text: str) -> None:
    plain = regex.compile(r"[^\s\p{Cc}\p{Cf}]\S*?(?=\b|\s|\Z)", regex.V1 | regex.WORD)
    assert find_words(text).tolist() == [list(match.span()) for match in plain.finditer(text)]


def test_a_long_row_of_flags_is_found_in_time() -> None:
    assert find_words("🇩🇪" * 200_000).tolist() == [[2 * k, 2 * k + 2] for k in range(200_000)]


@given(st.lists(st.text(st.characters(), max_size=5)))
def test_words_given_keep_their_number_and_places(words: list[str]) -> None:
    spanned = SpannedText.of(words)
    assert spanned.text == " ".join(words)
    assert spanned.words == words


def test_spans_given_are_taken_as_they_are() -> None:
    spanned = SpannedText.of(("Washington D.C.", [(0, 10), (11, 15), (3, 3), (2, 7)]))
    assert spanned.words == ["Washington", "D.C.", "", "shing"]


def test_spans_may_be_numpy_s() -> None:
    spans = SpannedText.of(("12345", np.array([[0, 2], [3, 4]]))).spans
    assert spans.tolist() == [[0, 2], [3, 4]]


def test_a_tuple_of_two_words_is_two_words() -> None:
    assert SpannedText.of(("New", "York")).words == ["New", "York"]


@pytest.mark.parametrize("span", [(-1, 2), (0, 6), (3, 2)])
def test_spans_outside_the_text(span: tuple[int, int]) -> None:
    with pytest.raises(
        CharEmbedError, match=rf"span \({span[0]}, {span[1]}\) does not lie in the text of 5 characters"
    ):
        SpannedText.of(("12345", [span]))


@pytest.mark.parametrize("span", [5, (1,), (1, 2, 3), ("a", "b"), "12", (1.9, 2.2)])
def test_spans_that_are_none(span: object) -> None:
    with pytest.raises(CharEmbedError, match="a span is a pair of character offsets"):
        SpannedText.of(("12345", [span]))


@pytest.mark.parametrize("item", [5, None, b"bytes", ["a", 5], ["a", None], ("text", [(0, 2)], 3)])
def test_what_is_no_text(item: object) -> None:
    with pytest.raises(TypeError, match="str"):
        SpannedText.of(item)
