"""Tests of finding words, against another implementation of Unicode's word boundaries."""

from __future__ import annotations

import functools
import itertools
import time

import numpy as np
import pytest
import regex
from helpers import AWKWARD_TEXTS, EXCERPT
from hypothesis import assume, given
from hypothesis import strategies as st
from uniseg.emoji import extended_pictographic
from uniseg.wordbreak import word_boundaries, word_break

from charembed import CharEmbedError
from charembed.text.word_boundaries import HAS_WORD_RULES_1
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
        ("'apple' ‘ist’ 'I'm'", ["'", "apple", "'", "‘", "ist", "’", "'", "I'm", "'"]),
        ("🇩, x🇩y 🇩🇪🇫", ["🇩", ",", "x", "🇩", "y", "🇩🇪", "🇫"]),
        ("\u0301b\n\u0301c", ["\u0301", "b", "\u0301", "c"]),
        ("1\u202f000 snake_case a_1", ["1", "000", "snake_case", "a_1"]),
        ('אב\' ג"ד "אב"', ["אב'", 'ג"ד', '"', "אב", '"']),
        ("カタカナx テスト_1", ["カタカナ", "x", "テスト_1"]),
        ("2.5. 1,000, a.b. e:f: :", ["2.5", ".", "1,000", ",", "a.b", ".", "e:f", ":", ":"]),
        ("\u0600\u0661 \u200b\u0301", ["\u0661", "\u0301"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.one_of(st.text(st.characters()), st.sampled_from(AWKWARD_TEXTS)))
def test_words_are_in_order_and_hold_everything_visible(text: str) -> None:
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


VISIBLE = regex.compile(r"[^\s\p{Cc}\p{Cf}]\S*")


def expected_words(text: str) -> list[list[int]]:
    """Return the spans of words by `uniseg`, which implements the rules of Unicode Standard Annex 29 one by one.

    U+202F, the narrow no-break space of numbers such as "1 000", joins words there; here it is white space.
    """
    boundaries = [0, *word_boundaries(text.replace("\u202f", " "))]
    return [
        list(visible.span())
        for start, end in itertools.pairwise(boundaries)
        if (visible := VISIBLE.search(text, start, end))
    ]


@functools.cache
def has_same_properties(character: str) -> bool:
    """Return whether `regex` and `uniseg` agree on the properties of a character.

    They follow different versions of Unicode (16.0 in uniseg 0.10), which mainly differ in characters that one of them
    does not know yet.
    """
    return regex.fullmatch(rf"\p{{WB={word_break(character).value}}}", character) is not None and (
        regex.fullmatch(r"\p{Extended_Pictographic}", character) is not None
    ) == extended_pictographic(character)


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_awkward_texts_have_unicode_s_words(text: str) -> None:
    assert find_words(text).tolist() == expected_words(text)


def test_real_text_has_unicode_s_words() -> None:
    lines = EXCERPT.read_text(encoding="utf-8").split("\n")
    apostrophes = [line for line in lines if " '" in line]
    assert apostrophes
    for line in [*apostrophes, *lines[::20]]:
        assert find_words(line).tolist() == expected_words(line), line


# One character of each Word_Break value, and others that are treated differently.
KINDS = "a1א'\".:,_アx❤Ⓜ!東🇩\u0301\u200d\u00ad\u0600\u200b\x07\ud800 \xa0\u202f\u3000\r\n\x85"


@pytest.mark.parametrize("first", KINDS)
def test_all_sequences_of_kinds_of_characters_have_unicode_s_words(first: str) -> None:
    for rest in itertools.product(KINDS, repeat=2):
        for text in (first, first + rest[0], first + "".join(rest)):
            assert find_words(text).tolist() == expected_words(text), [hex(ord(c)) for c in text]


@given(st.text(KINDS, min_size=4, max_size=20))
def test_mixed_kinds_of_characters_have_unicode_s_words(text: str) -> None:
    assert find_words(text).tolist() == expected_words(text)


@given(st.text(st.characters()))
def test_any_text_has_unicode_s_words(text: str) -> None:
    assume(all(map(has_same_properties, text)))
    assert find_words(text).tolist() == expected_words(text)


def test_time_grows_with_the_length_of_the_text() -> None:
    """On text for which a rule would look back to the beginning of a row, or ahead to its end."""
    for repeated in ("🇩🇪", "a", "\u0301", "❤\u200d", "א'", "1.", "ア_", "!"):
        began = time.monotonic()
        spans = find_words(repeated * 100_000)
        assert spans[-1, 1] >= len(repeated) * 100_000 - 1
        assert time.monotonic() - began < 30, "a quadratic search takes many minutes"
    assert find_words("🇩🇪" * 1000).tolist() == [[2 * k, 2 * k + 2] for k in range(1000)]


@given(st.lists(st.text(st.characters(), max_size=5)))
def test_given_words_are_kept(words: list[str]) -> None:
    spanned = SpannedText.of(words)
    assert spanned.text == " ".join(words)
    assert spanned.words == words


def test_given_words_may_be_an_array() -> None:
    assert words_of(np.array(["one", "two words"])) == ["one", "two words"]
    assert words_of(np.array("one two")) == ["one", "two"]


def test_given_words_may_be_those_of_arrow() -> None:
    import pyarrow

    texts = pyarrow.array([["one", "two words"]])
    assert words_of(texts[0]) == ["one", "two words"]
    assert words_of(pyarrow.scalar("one two")) == ["one", "two"]


def test_given_spans_are_kept() -> None:
    spanned = SpannedText.of(("Washington D.C.", [(0, 10), (11, 15), (3, 3), (2, 7)]))
    assert spanned.words == ["Washington", "D.C.", "", "shing"]


def test_spans_may_be_a_numpy_array() -> None:
    spans = SpannedText.of(("12345", np.array([[0, 2], [3, 4]]))).spans
    assert spans.tolist() == [[0, 2], [3, 4]]


def test_a_tuple_of_two_words_is_two_words() -> None:
    assert SpannedText.of(("New", "York")).words == ["New", "York"]


def test_a_text_with_its_words_is_kept() -> None:
    spanned = SpannedText.of(("New York", [(4, 8)]))
    assert SpannedText.of(spanned) is spanned


def test_reversed_spans() -> None:
    with pytest.raises(CharEmbedError, match=r"span \(3, 2\) ends before it starts: a span is a pair \(start, end\)"):
        SpannedText.of(("12345", [(3, 2)]))


@pytest.mark.parametrize("span", [(-1, 2), (0, 6), (6, 7)])
def test_spans_outside_the_text(span: tuple[int, int]) -> None:
    with pytest.raises(CharEmbedError, match=rf"span \({span[0]}, {span[1]}\) is not within the text of 5 characters"):
        SpannedText.of(("12345", [span]))


@pytest.mark.parametrize("span", [5, (1,), (1, 2, 3), ("a", "b"), "12", (1.9, 2.2)])
def test_values_that_are_not_spans(span: object) -> None:
    with pytest.raises(CharEmbedError, match="a span is a pair of character offsets"):
        SpannedText.of(("12345", [span]))


@pytest.mark.parametrize("item", [5, None, b"bytes", ["a", 5], ["a", None], ("text", [(0, 2)], 3)])
def test_items_that_are_not_texts(item: object) -> None:
    with pytest.raises(TypeError, match="str"):
        SpannedText.of(item)


@pytest.mark.parametrize("character", ["\x00", "\u200b", "\x85", "\u202e", "\u0301", "\u200d", "'", "a", "7"])
def test_time_is_proportional_to_the_length(character: str) -> None:
    """A scan of the rest of the text at each character would take hours for 300,000 of them."""
    spans = find_words(character * 300_000 + " end")
    assert spans[-1].tolist() == [300_001, 300_004]


@pytest.mark.skipif(not HAS_WORD_RULES_1, reason="needs regex < 2026.11.18")
def test_rules_of_version_1() -> None:
    text = "'apple 'pear it's"
    assert [text[start:end] for start, end in find_words(text, rules=1)] == ["'apple", "'", "pear", "it's"]
    assert [text[start:end] for start, end in find_words(text)] == ["'", "apple", "'", "pear", "it's"]
