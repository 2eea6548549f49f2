"""Number the frequent words of an encoded corpus, in a file that runs parallel to its ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.dataset.split import Bounds
from charembed.text.vocab import CharVocab, Ids
from charembed.text.words import WORD_RULES, find_words
from charembed.util.files import atomic_file, atomic_write

WordMarks = NDArray[np.uint16]
"""One number for each character: 0 outside words, `RARE` in a word that is not frequent, `FIRST + k` in the k-th
frequent word; with `BEGINS` added at the first character of a word."""
RARE, FIRST = 1, 2
BEGINS = 1 << 15
MAX_WORDS = BEGINS - FIRST
"""Largest number of frequent words."""
MARK_TYPE = np.dtype("<u2")
_PIECE = 1 << 20
"""Characters in which words are found at once."""
_MAX_COUNTED = 5_000_000
"""Different words that are counted; when there are more, the rarest are forgotten."""


@dataclass(frozen=True)
class FrequentWords:
    """The most frequent words of a text, and where each word of the text begins and ends."""

    words: list[str]
    """The words, most frequent first."""
    counts: NDArray[np.int64]
    """Number of occurrences of each in the training text. Shape: (words,)"""
    share: float
    """Share of the words of the training text that are frequent, from 0 to 1."""
    marks: WordMarks
    """The words of the encoded corpus, in a memory-mapped file. Shape: (characters,)"""
    marker: WordMarker
    """Marks the same words in other text."""

    @classmethod
    def of(cls, encoded: EncodedCorpus, number: int) -> FrequentWords:
        """Return the frequent words of the training text, found now or in an earlier run with the same text.

        Args:
            encoded: the text. The files are written next to it.
            number: largest number of words.

        Raises:
            OSError: the files cannot be written.
        """
        name = f"words-{WORD_RULES}-{number}"
        marks, metadata = encoded.folder / f"{name}.bin", encoded.folder / f"{name}.json"
        # The metadata is written last, so the marks are complete where it exists.
        with FileLock(encoded.folder / f"{name}.lock"):
            if not metadata.exists():
                _write(encoded, number, marks, metadata)
        content = json.loads(metadata.read_text(encoding="utf-8"))
        words = content["words"]
        return cls(
            words,
            np.array(content["counts"], dtype=np.int64),
            content["share"],
            np.memmap(marks, dtype=MARK_TYPE, mode="r"),
            WordMarker(words, encoded.vocab),
        )


class WordMarker:
    """Marks the words of encoded text."""

    def __init__(self, words: list[str], vocab: CharVocab) -> None:
        """
        Args:
            words: the frequent words, most frequent first.
            vocab: the vocabulary of the ids.
        """
        self._marks = {word: FIRST + k for k, word in enumerate(words)}
        self._vocab = vocab

    def mark(self, ids: Ids, bounds: Bounds) -> WordMarks:
        """Return the marks of a text.

        Args:
            ids: the text. Shape: (characters,)
            bounds: the parts of it in which words are found; all others have no words. Shape: (parts, 2)

        Returns:
            Shape: (characters,)
        """
        marks = np.zeros(len(ids), dtype=MARK_TYPE)
        self.mark_into(marks, ids, bounds)
        return marks

    def mark_into(self, marks: WordMarks, ids: Ids, bounds: Bounds, bar: Any = None) -> None:
        """Write the marks of a text into an array of zeros, such as a memory-mapped file.

        Args:
            marks: the array. Shape: (characters,)
            ids: the text, as in `mark`.
            bounds: the parts of it, as in `mark`.
            bar: progress bar of characters.
        """
        for start, text in text_pieces(ids, bounds, self._vocab):
            spans = find_words(text)
            values = np.array([self._marks.get(text[a:b], RARE) for a, b in spans.tolist()], dtype=MARK_TYPE)
            lengths = spans[:, 1] - spans[:, 0]
            # Offsets of all characters of all words: the first one of each word, and how far each is from it.
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            marks[start + np.repeat(spans[:, 0], lengths) + within] = np.repeat(values, lengths)
            marks[start + spans[:, 0]] |= BEGINS
            if bar is not None:
                bar.update(len(text))


def _write(encoded: EncodedCorpus, number: int, marks: Path, metadata: Path) -> None:
    """Count the words of the training text, and mark them."""
    counter: Counter[str] = Counter()
    with _progress_bar("counting words", encoded.characters) as bar:
        for _, text in text_pieces(encoded.ids, encoded.segments, encoded.vocab):
            counter.update(text[start:end] for start, end in find_words(text).tolist())
            if len(counter) > _MAX_COUNTED:
                counter = Counter(dict(counter.most_common(_MAX_COUNTED // 2)))
            bar.update(len(text))
    # Words of equal frequency are in the order of their code points, so that the numbers depend on the text alone.
    frequent = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:number]
    words = [word for word, _ in frequent]
    with atomic_file(marks) as path, _progress_bar("numbering words", encoded.characters) as bar:
        file = np.memmap(path, dtype=MARK_TYPE, mode="w+", shape=len(encoded.ids))
        WordMarker(words, encoded.vocab).mark_into(file, encoded.ids, encoded.segments, bar)
        file.flush()
    counts = [count for _, count in frequent]
    share = sum(counts) / max(1, counter.total())
    atomic_write(metadata, json.dumps({"words": words, "counts": counts, "share": share}))


def text_pieces(ids: Ids, bounds: Bounds, vocab: CharVocab) -> Iterator[tuple[int, str]]:
    """Yield the text of each part, long ones in several pieces, with the offset of its first character."""
    for first, last in bounds.tolist():
        start = first
        while start < last:
            text = vocab.decode(ids[start : min(start + _PIECE, last)])
            # A piece ends with a line, if it holds a whole one, so that no word is cut.
            if start + len(text) < last and "\n" in text:
                text = text[: text.rindex("\n") + 1]
            yield start, text
            start += len(text)


def _progress_bar(what: str, characters: int) -> Any:
    return tqdm(
        desc=what, total=characters, unit=" characters", unit_scale=True, disable=None, dynamic_ncols=True, leave=False
    )
