"""Count the words of encoded text, and mark them: one number for each character.

Words never contain a space or a line break, and which words there are between two of these does not depend on the text
around. So `find_words` reads each different piece of text between spaces once, which is about ten times as fast as
reading all of the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.dataset.split import Bounds
from charembed.text.vocab import CharVocab, Ids
from charembed.text.words import Spans, find_words

WordMarks = NDArray[np.uint16]
"""One number for each character: 0 outside words, `RARE` in a word that is not frequent, `FIRST + k` in the k-th
frequent word; with `BEGINS` added at the first character of a word."""
RARE, FIRST = 1, 2
BEGINS = 1 << 15
MAX_WORDS = BEGINS - FIRST
"""Largest number of frequent words."""
MARK_TYPE = np.dtype("<u2")


@dataclass(frozen=True)
class WordLimits:
    """How much is kept in memory while words are counted and marked."""

    piece: int = 1 << 20
    """Characters that are decoded at once."""
    tokens: int = 500_000
    """Different tokens to count before their words are counted."""
    characters: int = 32_000_000
    """Characters to read before the words of their tokens are counted."""
    words: int = 5_000_000
    """Different words that are counted; when there are more, the rarer half is forgotten."""
    cached: int = 4_000_000
    """Characters of the tokens whose marks are kept, which takes about 100 MB."""


DEFAULT_LIMITS = WordLimits()


class WordCounter:
    """Counts words in bounded memory."""

    def __init__(self, vocab: CharVocab, limits: WordLimits = DEFAULT_LIMITS) -> None:
        """
        Args:
            vocab: the vocabulary of the ids.
            limits: how much is kept in memory.
        """
        self._limits = limits
        self._vocab = vocab
        self._words: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self.total = 0
        """Number of words counted."""

    def count(self, ids: Ids, bounds: Bounds, bar: Any = None) -> None:
        """Count the words of a text.

        Args:
            ids: the text. Shape: (characters,)
            bounds: the parts of it that are counted. Shape: (parts, 2)
            bar: progress bar of characters.
        """
        characters = 0
        for _, text in text_pieces(ids, _joined(bounds), self._vocab, self._limits.piece):
            self._tokens.update(_split(text))
            characters += len(text)
            if len(self._tokens) > self._limits.tokens or characters > self._limits.characters:
                self._count_words_of_tokens()
                characters = 0
            if bar is not None:
                bar.update(len(text))
        self._count_words_of_tokens()

    def most_common(self, number: int) -> list[tuple[str, int]]:
        """Return the most frequent words with their counts, in the order of `most_frequent_first`."""
        return most_frequent_first(self._words)[:number]

    def _count_words_of_tokens(self) -> None:
        text, starts, spans = _words_in(self._tokens)
        token_counts = np.array([*self._tokens.values()], dtype=np.int64)
        # Each word counts as often as its token.
        counts = token_counts[np.searchsorted(starts, spans[:, 0], side="right") - 1]
        for (start, end), count in zip(spans.tolist(), counts.tolist(), strict=True):
            self._words[text[start:end]] += count
        self.total += int(counts.sum())
        self._tokens.clear()
        self._words = forget_rare(self._words, self._limits.words)


def forget_rare(counts: Counter[str], limit: int) -> Counter[str]:
    """Return counts without the rarer half of the words if there are more than `limit`."""
    return counts if len(counts) <= limit else Counter(dict(counts.most_common(limit // 2)))


def most_frequent_first(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return words with their counts.

    Words of equal frequency are in the order of their code points, so that the result depends on the text alone.
    """
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


class WordMarker:
    """Marks the words of encoded text."""

    def __init__(self, words: list[str], vocab: CharVocab, limits: WordLimits = DEFAULT_LIMITS) -> None:
        """
        Args:
            words: the frequent words, most frequent first.
            vocab: the vocabulary of the ids.
            limits: how much is kept in memory.
        """
        self._limits = limits
        self._marks = {word: FIRST + k for k, word in enumerate(words)}
        self._vocab = vocab
        self._cache: dict[str, bytes] = {}
        """The marks of tokens."""
        self._cached = 0
        """Number of characters of these tokens."""

    def mark(self, ids: Ids, bounds: Bounds) -> WordMarks:
        """Return the marks of a text.

        Args:
            ids: the text. Shape: (characters,)
            bounds: the parts of it in which words are found; all others have no words. Shape: (parts, 2)

        Returns:
            Shape: (characters,)
        """
        marks = np.zeros(len(ids), dtype=MARK_TYPE)
        for start, piece in self.iter_marks(ids, bounds):
            marks[start : start + len(piece)] = piece
        return marks

    def iter_marks(self, ids: Ids, bounds: Bounds) -> Iterator[tuple[int, WordMarks]]:
        """Yield the marks of pieces of the parts of a text, each with the offset of its first character.

        Args:
            ids: the text, as in `mark`.
            bounds: the parts of it, as in `mark`.
        """
        between = bytes(MARK_TYPE.itemsize)  # a space or a line break is in no word
        for start, text in text_pieces(ids, _joined(bounds), self._vocab, self._limits.piece):
            tokens = _split(text)
            self._cache_marks({token for token in tokens if token not in self._cache})
            raw = between.join([self._cache[token] for token in tokens])
            yield start, np.frombuffer(raw, dtype=MARK_TYPE)
            if self._cached > self._limits.cached:
                self._cache.clear()
                self._cached = 0

    def _cache_marks(self, tokens: Collection[str]) -> None:
        """Put the marks of tokens into the cache."""
        text, starts, spans = _words_in(tokens)
        marks = np.zeros(len(text), dtype=MARK_TYPE)
        values = np.array([self._marks.get(text[start:end], RARE) for start, end in spans.tolist()], dtype=MARK_TYPE)
        lengths = spans[:, 1] - spans[:, 0]
        # Offsets of all characters of all words: the first one of each word, and how far each is from it.
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        marks[np.repeat(spans[:, 0], lengths) + within] = np.repeat(values, lengths)
        marks[spans[:, 0]] |= BEGINS
        raw, size = marks.tobytes(), MARK_TYPE.itemsize
        for token, start in zip(tokens, starts.tolist(), strict=True):
            self._cache[token] = raw[size * start : size * (start + len(token))]
        self._cached += len(text)


def text_pieces(
    ids: Ids, bounds: Bounds, vocab: CharVocab, length: int = DEFAULT_LIMITS.piece
) -> Iterator[tuple[int, str]]:
    """Yield the text of each part with the offset of its first character, long parts in several pieces.

    Args:
        ids: the text. Shape: (characters,)
        bounds: bounds of the parts. Shape: (parts, 2)
        vocab: the vocabulary of the ids.
        length: characters of a piece, at most.
    """
    for first, last in bounds.tolist():
        start = first
        while start < last:
            text = vocab.decode(ids[start : min(start + length, last)])
            # End after a space or a line, if there is one, so that no word is cut.
            end = max(text.rfind(" "), text.rfind("\n")) + 1
            if start + len(text) < last and end:
                text = text[:end]
            yield start, text
            start += len(text)


def _joined(bounds: Bounds) -> Bounds:
    """Return parts with those joined that have no gap between them: documents, each of which ends with a blank line."""
    gaps = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1])
    starts, ends = np.append(0, gaps + 1), np.append(gaps, len(bounds) - 1)
    return np.stack([bounds[starts, 0], bounds[ends, 1]], axis=1)


def _split(text: str) -> list[str]:
    """Return the tokens between the spaces and line breaks of a text; some are empty."""
    return text.replace("\n", " ").split(" ")


def _words_in(tokens: Collection[str]) -> tuple[str, NDArray[np.int64], Spans]:
    """Find the words of tokens.

    Returns:
        The tokens as one text, one on each line; the offset of each token in it; and the offsets of the words. Shapes
        of these: (tokens,), (words, 2)
    """
    text = "\n".join(tokens)
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    return text, np.cumsum(lengths + 1) - (lengths + 1), find_words(text)
