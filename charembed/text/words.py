"""Receives texts in any of the forms users have them; hands on a text with words and their character offsets."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import regex
from numpy.typing import NDArray

from charembed.errors import CharEmbedError

Span = tuple[int, int]
Spans = NDArray[np.int64]
TextInput = str | Sequence[str] | tuple[str, Sequence[Span]]

# From a visible character to the next word boundary or white space. The boundaries are those of Unicode Standard Annex
# 29: "don't", "3.14" and an emoji joined of several are one word each, a punctuation mark is one of its own.
# A flag is two letters of its own kind: within a row of flags, for each of which `\b` would count from the first, it is
# named itself.
_WORD = regex.compile(
    r"\p{RI}{2}[\p{WB=Extend}\p{WB=Format}\u200d]*+(?=\p{RI}|\s|\Z)|[^\s\p{Cc}\p{Cf}]\S*?(?=\b|\s|\Z)",
    regex.V1 | regex.WORD,
)


@dataclass(frozen=True)
class SpannedText:
    """A text and where its words are."""

    text: str
    spans: Spans
    """Offsets of each word in characters (code points) of `text`: first one, one past the last. Shape: (words, 2)"""

    @property
    def words(self) -> list[str]:
        """The words, as they stand in the text."""
        return self.words_at(slice(None))

    def words_at(self, which: slice) -> list[str]:
        """Some of the words."""
        return [self.text[start:end] for start, end in self.spans[which].tolist()]

    @classmethod
    def of(cls, item: TextInput) -> SpannedText:
        """Find the words of one text.

        Args:
            item: a `str`, whose words are found; a sequence of words, which are joined by single spaces; or a pair of
                a text and the spans of its words.

        Raises:
            CharEmbedError: a span that lies outside the text or ends before it starts.
            TypeError: an item of another form.
        """
        if isinstance(item, str):
            return cls(item, find_words(item))
        if not isinstance(item, Sequence) or isinstance(item, (bytes, bytearray)):
            raise TypeError(f"a text is a str, a list of words or a pair (str, spans), got {type(item).__name__}")
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and not isinstance(item[1], str):
            return cls(item[0], check_spans(item[0], item[1]))
        words = list(item)
        for word in words:
            if not isinstance(word, str):
                raise TypeError(
                    f"a list of words holds str, got {type(word).__name__}: {word!r};"
                    " a text with spans is a pair (str, spans), and embed takes a list of texts"
                )
        ends = accumulate(len(word) + 1 for word in words)
        spans = [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
        return cls(" ".join(words), _as_array(spans))


def find_words(text: str) -> Spans:
    """Offsets of the words of a text: its segments between Unicode word boundaries (UAX 29) that show something.

    Scripts written without spaces get one word a character or a syllable; who has better words passes them.

    Shape: (words, 2)
    """
    offsets = (offset for match in _WORD.finditer(text) for offset in match.span())
    return np.fromiter(offsets, dtype=np.int64).reshape(-1, 2)


def check_spans(text: str, spans: Sequence[Span]) -> Spans:
    """The spans as an array. Shape: (words, 2)

    Raises:
        CharEmbedError: a span that lies outside the text or ends before it starts.
    """
    checked = []
    for span in spans:
        try:
            start, end = (operator.index(offset) for offset in span)
        except (TypeError, ValueError) as error:
            raise CharEmbedError(f"a span is a pair of character offsets, got {span!r}") from error
        if not 0 <= start <= end <= len(text):
            raise CharEmbedError(f"span ({start}, {end}) does not lie in the text of {len(text)} characters")
        checked.append((start, end))
    return _as_array(checked)


def _as_array(spans: list[Span]) -> Spans:
    return np.array(spans, dtype=np.int64).reshape(-1, 2)
