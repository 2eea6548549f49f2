"""Receives text; hands on character ids, and keeps the table between the two as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_write

UNKNOWN = "<unk>"
UNKNOWN_ID = 0
CODE_POINTS = 0x110000
"""Number of Unicode code points, lone surrogates included."""
Ids = NDArray[np.integer[Any]]

# What decoding puts for <unk>: one character, so that decoded text keeps the length of its ids.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# The delimiter before every text and the space between words: the engine reads both, whatever the corpus held.
ALWAYS_KEPT = ("\n", " ")


def code_points(text: str) -> NDArray[np.uint32]:
    """Code points of a text, one a character, lone surrogates included.

    Shape: (len(text),)
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


class CharacterCounter:
    """Counts characters text by text, in memory that does not grow with the text."""

    def __init__(self) -> None:
        self._counts = np.zeros(CODE_POINTS, dtype=np.int64)

    def update(self, text: str) -> None:
        """Count the characters of one more text."""
        points = code_points(text)
        if points.size > CODE_POINTS // 16:
            self._counts += np.bincount(points, minlength=CODE_POINTS)
        else:  # a histogram over all of Unicode for each short text would cost far more than the text
            values, counts = np.unique(points, return_counts=True)
            self._counts[values] += counts

    @property
    def total(self) -> int:
        """Characters counted so far."""
        return int(self._counts.sum())

    def most_common(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Code points seen and their counts, the most frequent first, ties in code point order.

        Shape: (distinct,), (distinct,)
        """
        seen = np.flatnonzero(self._counts)
        order = np.argsort(-self._counts[seen], kind="stable")
        return seen[order], self._counts[seen[order]]


class CharVocab:
    """A table between characters and ids. Id 0 is `<unk>`, which every character outside the table maps to.

    A character is one Unicode code point; text is taken as it is, without normalisation or lower-casing, so ids and
    characters correspond one to one and offsets need no translation.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        """
        Args:
            characters: the known characters; the k-th gets id k + 1.

        Raises:
            CharEmbedError: an entry is not one character, is a lone surrogate, or stands twice.
        """
        for character in characters:
            if len(character) != 1 or "\ud800" <= character <= "\udfff":
                raise CharEmbedError(f"a vocabulary holds single characters that UTF-8 can store, got {character!r}")
        if len(set(characters)) != len(characters):
            twice = next(c for i, c in enumerate(characters) if c in characters[:i])
            raise CharEmbedError(f"a vocabulary holds each character once, got {twice!r} twice")
        self.characters = tuple(characters)
        points = np.array([ord(c) for c in characters], dtype=np.int64)
        # One slot more than the highest known code point: `mode="clip"` sends everything above there, to <unk>.
        self._id_of_point = np.full(int(points.max(initial=0)) + 2, UNKNOWN_ID, dtype=np.int32)
        self._id_of_point[points] = np.arange(1, len(points) + 1, dtype=np.int32)
        self._point_of_id = np.array([ord(REPLACEMENT), *points], dtype=np.uint32)

    @classmethod
    def build(cls, texts: Iterable[str], coverage: float = 0.9999, max_size: int | None = None) -> CharVocab:
        """Build a vocabulary from text: the most frequent characters that together cover `coverage` of it.

        What is left out is seen as `<unk>` in training too, so the model learns what an unknown character means.

        Args:
            texts: the texts, read once.
            coverage: share of all characters that must be known, in (0, 1].
            max_size: upper bound on `len(vocab)`, `<unk>` included; None for no bound.

        Raises:
            CharEmbedError: no characters at all, or a bound out of range.
        """
        counter = CharacterCounter()
        for text in texts:
            counter.update(text)
        return cls.from_counts(counter, coverage=coverage, max_size=max_size)

    @classmethod
    def from_counts(cls, counter: CharacterCounter, coverage: float = 0.9999, max_size: int | None = None) -> CharVocab:
        """`build`, from characters already counted."""
        if not 0.0 < coverage <= 1.0:
            raise CharEmbedError(f"coverage must be above 0 and at most 1, got {coverage}")
        least = 1 + len(ALWAYS_KEPT)
        if max_size is not None and max_size < least:
            raise CharEmbedError(f"max_size must be at least {least} ({UNKNOWN}, newline and space), got {max_size}")
        points, counts = counter.most_common()
        if points.size == 0:
            raise CharEmbedError("cannot build a vocabulary: the text is empty")
        covered = np.cumsum(counts) / counts.sum()
        enough = int(np.searchsorted(covered, coverage)) + 1
        wanted = [chr(p) for p in points[:enough] if not 0xD800 <= p <= 0xDFFF]
        if max_size is not None:
            wanted = [c for c in wanted if c not in ALWAYS_KEPT][: max_size - least]
        return cls(sorted(set(wanted).union(ALWAYS_KEPT)))

    def __len__(self) -> int:
        """Number of ids, `<unk>` included."""
        return len(self.characters) + 1

    def __contains__(self, character: str) -> bool:
        return character in self.characters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharVocab) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"CharVocab({len(self)} ids)"

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text, one a character.

        Shape: (len(text),)
        """
        return self._id_of_point.take(code_points(text), mode="clip")

    def decode(self, ids: Iterable[int] | NDArray[np.integer]) -> str:
        """The text of some ids; `<unk>` comes back as U+FFFD.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= len(self)):
            raise IndexError(f"ids must be from 0 to {len(self) - 1}, got {array.min()} to {array.max()}")
        return self._point_of_id[array].tobytes().decode("utf-32-le")

    def to_tokenizer(self) -> Tokenizer:
        """The same table as a `tokenizers.Tokenizer` that gives the same ids and the same decoded text.

        A BPE model without merges splits text into characters. `<unk>` is no added token, so the five characters
        "<unk>" in a text are five characters there as they are here.
        """
        table = {UNKNOWN: UNKNOWN_ID} | {character: k + 1 for k, character in enumerate(self.characters)}
        tokenizer = Tokenizer(models.BPE(vocab=table, merges=[], unk_token=UNKNOWN, fuse_unk=False))
        tokenizer.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, REPLACEMENT), decoders.Fuse()])
        return tokenizer

    def to_json(self) -> str:
        """The text of `tokenizer.json`."""
        text: str = self.to_tokenizer().to_str(pretty=True)
        return text

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "tokenizer.json") -> CharVocab:
        """Read what `to_json` wrote.

        Args:
            text: the JSON, or its bytes in UTF-8.
            source: name of the file, for error messages.

        Raises:
            CharEmbedError: not a tokenizer, or not a table of single characters with `<unk>` as id 0.
        """
        try:
            read = json.loads(text.decode() if isinstance(text, bytes) else text)
            model = read["model"]
            table = model["vocab"]
            plain = model["type"] == "BPE" and model["unk_token"] == UNKNOWN and not model["merges"]
            plain = plain and not model.get("byte_fallback") and not model.get("continuing_subword_prefix")
            plain = plain and not any(read.get(part) for part in ("added_tokens", "normalizer", "pre_tokenizer"))
            by_id = sorted(table, key=table.__getitem__)
            in_order = [table[token] for token in by_id] == list(range(len(table))) and by_id[:1] == [UNKNOWN]
            in_order = in_order and all(type(value) is int for value in table.values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CharEmbedError(f"{source} is not a tokenizer.json: {type(error).__name__}: {error}") from error
        if not plain:
            raise CharEmbedError(f"{source} is not a character vocabulary: expected BPE without merges and other steps")
        if not in_order:
            raise CharEmbedError(f"{source} is not a character vocabulary: ids must run from 0, {UNKNOWN} first")
        try:
            return cls(by_id[1:])
        except CharEmbedError as error:
            raise CharEmbedError(f"{source} is not a character vocabulary: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`, aside first, then in its place."""
        atomic_write(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharVocab:
        """Read a `tokenizer.json` that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CharEmbedError: it is no character vocabulary.
        """
        return cls.from_json(Path(path).read_bytes(), source=str(path))
