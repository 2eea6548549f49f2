"""Find the words of texts, which users give in several forms."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.text.word_boundaries import INVISIBLE_RUN, WORD, WORD_RULES_1

Span = tuple[int, int]
Spans = NDArray[np.int64]
WORD_RULES = 2
"""Version of the rules of `find_words`. Version 1 is that of charembed 0.1.0."""


@dataclass(frozen=True)
class SpannedText:
    """A text and the positions of its words."""

    text: str
    """The text."""
    spans: Spans
    """Offsets of the first character of each word, and of the one after its last, in characters (code points) of
    `text`. Shape: (words, 2)"""
    original: SpannedText | None = field(default=None, kw_only=True)
    """The text as it was given, if `text` is another form of it; the words correspond."""

    @property
    def words(self) -> list[str]:
        """The words, as the text spells them."""
        return self.words_at(slice(None))

    def words_at(self, which: slice) -> list[str]:
        """Return some of the words."""
        return [self.text[start:end] for start, end in self.spans[which].tolist()]

    @classmethod
    def of(cls, item: TextInput) -> SpannedText:
        """Return the text and words of an item.

        Args:
            item: a `str`, whose words are found by `find_words`; a sequence or array of words, which are joined by
                single spaces; a pair of a text and the spans of its words, which may overlap and be in any order; or a
                `SpannedText`, which is returned as it is.

        Raises:
            CharEmbedError: a span is outside the text or ends before it starts.
            TypeError: the item has another form.
        """
        if isinstance(item, SpannedText):
            return item
        item = as_list(item)
        if isinstance(item, str):
            return cls(item, find_words(item))
        if not isinstance(item, Sequence) or isinstance(item, (bytes, bytearray)):
            raise TypeError(f"a text is a str, a list of words or a pair (str, spans), got {type(item).__name__}")
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and not isinstance(item[1], str):
            return cls(item[0], check_spans(item[0], item[1]))
        # Each word is followed by one space, except for the last.
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


TextInput = str | Sequence[str] | tuple[str, Sequence[Span]] | SpannedText


def as_list(values: Any) -> Any:
    """Return an array of NumPy, pandas or Arrow as a list, a value of Arrow as Python's, anything else as it is."""
    for method in ("tolist", "to_pylist", "as_py"):
        if hasattr(values, method):
            return getattr(values, method)()
    return values


def find_words(text: str, rules: int = WORD_RULES) -> Spans:
    """Return the offsets of the words of a text.

    Words are the segments between the word boundaries of Unicode Standard Annex 29 that hold anything visible: "don't",
    "3.14" and an emoji of several characters are one word each, and a punctuation mark is a word of its own. Control
    and format characters at the beginning of a segment are not part of the word. In scripts that are written without
    spaces the words are single characters or syllables: use a word segmenter for those languages, and pass its words.

    Args:
        text: the text.
        rules: version of the rules; 1 for those of charembed 0.1.0.

    Returns:
        Shape: (words, 2)
    """
    offsets = array("q")
    if rules == 1:
        for match in WORD_RULES_1.finditer(text):
            offsets.extend(match.span())
        return np.array(offsets, dtype=np.int64).reshape(-1, 2)
    for match in WORD.finditer(text):
        start, end = match.span()
        # Skip invisible characters at the beginning, and words that consist of nothing else.
        if match.lastindex:
            invisible = INVISIBLE_RUN.match(text, start, end)
            start = end if invisible is None else invisible.end()
            if start == end:
                continue
        offsets.append(start)
        offsets.append(end)
    return np.array(offsets, dtype=np.int64).reshape(-1, 2)


def check_spans(text: str, spans: Sequence[Span]) -> Spans:
    """Return spans as an array. Shape: (words, 2)

    Raises:
        CharEmbedError: `spans` is no sequence, or a span is not a pair of integers, is outside the text or ends before
            it starts.
    """
    if not isinstance(spans, Iterable):
        raise CharEmbedError(f"a text with spans is a pair (str, spans), got {spans!r} instead of the spans")
    checked = []
    for span in spans:
        try:
            # Accepts NumPy's integers, but not floats.
            start, end = (operator.index(offset) for offset in span)
        except (TypeError, ValueError) as error:
            raise CharEmbedError(f"a span is a pair of character offsets, got {span!r}") from error
        if end < start:
            raise CharEmbedError(f"span ({start}, {end}) ends before it starts: a span is a pair (start, end)")
        if start < 0 or end > len(text):
            raise CharEmbedError(f"span ({start}, {end}) is not within the text of {len(text)} characters")
        checked.append((start, end))
    return _as_array(checked)


def _as_array(spans: list[Span]) -> Spans:
    return np.array(spans, dtype=np.int64).reshape(-1, 2)
