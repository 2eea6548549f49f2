"""Map characters to ids and back; the table is stored as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models

from charembed.errors import CharEmbedError
from charembed.util.checks import shown
from charembed.util.files import atomic_write
from charembed.util.reading import MAX_JSON_BYTES, parse_json, read_file

UNKNOWN = "<unk>"
UNKNOWN_ID = 0
CODE_POINTS = 0x110000
"""Number of Unicode code points, lone surrogates included."""
MAX_IDS = 0x10000
"""Largest number of ids: encoded text takes two bytes per character."""
Ids = NDArray[np.integer[Any]]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What <unk> is decoded to: a single character, so that decoded text is as long as its ids."""
REQUIRED_CHARACTERS = ("\n", " ")
"""Characters of every vocabulary, even if the text lacks them: embedding reads a newline before each text and a space
between words."""


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text, one per character, lone surrogates included.

    Shape: (len(text),)
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


class CharacterCounter:
    """Counts the characters of texts, in memory that does not grow with them."""

    def __init__(self) -> None:
        self._counts = np.zeros(CODE_POINTS, dtype=np.int64)

    def update(self, text: str) -> None:
        """Add the characters of a text."""
        points = code_points(text)
        if points.size > CODE_POINTS // 16:
            self._counts += np.bincount(points, minlength=CODE_POINTS)
        else:
            # A histogram over all of Unicode would cost far more than counting a short text.
            values, counts = np.unique(points, return_counts=True)
            self._counts[values] += counts

    @property
    def total(self) -> int:
        """Number of characters counted so far."""
        return int(self._counts.sum())

    def most_common(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the code points that occurred and their counts, most frequent first, ties in code point order.

        Shape: (distinct,), (distinct,)
        """
        seen = np.flatnonzero(self._counts)
        # Stable, so that the vocabulary does not depend on the order of the text.
        order = np.argsort(-self._counts[seen], kind="stable")
        return seen[order], self._counts[seen[order]]


class CharVocab:
    """A table of characters and their ids. Id 0 is `<unk>`, the id of every character outside the table.

    A character is one Unicode code point. Text is not normalized or lower-cased, so ids and characters correspond one
    to one, and an offset into the ids is an offset into the text.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        """
        Args:
            characters: the known characters; the one at index k gets id k + 1.

        Raises:
            CharEmbedError: an entry is not a single character, is a lone surrogate, or occurs twice.
        """
        for character in characters:
            if len(character) != 1 or "\ud800" <= character <= "\udfff":
                raise CharEmbedError(
                    f"a vocabulary holds single characters that UTF-8 can store, got {shown(character)}"
                )
        if len(set(characters)) != len(characters):
            duplicate = next(c for i, c in enumerate(characters) if c in characters[:i])
            raise CharEmbedError(f"a vocabulary holds each character once, got {duplicate!r} twice")
        self.characters = tuple(characters)
        points = np.array([ord(c) for c in characters], dtype=np.int64)
        # One entry more than the highest known code point: `mode="clip"` maps everything above to it, thus to <unk>.
        self._id_of_point = np.full(int(points.max(initial=0)) + 2, UNKNOWN_ID, dtype=np.int32)
        self._id_of_point[points] = np.arange(1, len(points) + 1, dtype=np.int32)
        self._point_of_id = np.array([ord(REPLACEMENT), *points], dtype=np.uint32)

    @classmethod
    def build(cls, texts: Iterable[str], coverage: float = 0.9999, max_size: int | None = None) -> CharVocab:
        """Build a vocabulary from text: the fewest, most frequent characters that make up a share of it.

        Training reads the other characters as `<unk>`, so that the model learns what an unknown character means.

        Args:
            texts: the texts, read once.
            coverage: share of all characters that must be known, above 0 and at most 1.
            max_size: upper bound on `len(vocab)`, `<unk>` included; None for no bound.

        Raises:
            CharEmbedError: the texts are empty, or a bound is out of range.
        """
        counter = CharacterCounter()
        for text in texts:
            counter.update(text)
        return cls.from_counts(counter, coverage=coverage, max_size=max_size)

    @classmethod
    def from_counts(cls, counter: CharacterCounter, coverage: float = 0.9999, max_size: int | None = None) -> CharVocab:
        """Build a vocabulary like `build`, from characters that were counted already.

        Raises:
            CharEmbedError: no character was counted, or a bound is out of range.
        """
        if not 0.0 < coverage <= 1.0:
            raise CharEmbedError(f"coverage must be above 0 and at most 1, got {coverage}")
        smallest = 1 + len(REQUIRED_CHARACTERS)
        if max_size is not None and max_size < smallest:
            raise CharEmbedError(f"max_size must be at least {smallest} ({UNKNOWN}, newline and space), got {max_size}")
        points, counts = counter.most_common()
        if points.size == 0:
            raise CharEmbedError("cannot build a vocabulary: the text is empty")
        covered = np.cumsum(counts) / counts.sum()
        count = int(np.searchsorted(covered, coverage)) + 1
        # UTF-8, and so tokenizer.json, cannot hold lone surrogates.
        characters = [chr(point) for point in points[:count] if not 0xD800 <= point <= 0xDFFF]
        if max_size is not None:
            characters = [c for c in characters if c not in REQUIRED_CHARACTERS][: max_size - smallest]
        return cls(sorted(set(characters).union(REQUIRED_CHARACTERS)))

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
        """Return the ids of a text, one per character.

        Shape: (len(text),)
        """
        return self._id_of_point.take(code_points(text), mode="clip")

    def decode(self, ids: Iterable[int] | NDArray[np.integer]) -> str:
        """Return the text of ids, with U+FFFD for `<unk>`.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= len(self)):
            raise IndexError(f"ids must be from 0 to {len(self) - 1}, got {array.min()} to {array.max()}")
        return self._point_of_id[array].tobytes().decode("utf-32-le")

    def to_tokenizer(self) -> Tokenizer:
        """Return a `tokenizers.Tokenizer` that gives the same ids and the same decoded text.

        It is a BPE model without merges, which splits text into characters. `<unk>` is not an added token: where a text
        holds the five characters "<unk>", they stay five characters.
        """
        # Decoding must give one character per id, so <unk> becomes U+FFFD and the characters are joined without spaces.
        table = {UNKNOWN: UNKNOWN_ID} | {character: k + 1 for k, character in enumerate(self.characters)}
        tokenizer = Tokenizer(models.BPE(vocab=table, merges=[], unk_token=UNKNOWN, fuse_unk=False))
        tokenizer.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, REPLACEMENT), decoders.Fuse()])
        return tokenizer

    def to_json(self) -> str:
        """Return the content of `tokenizer.json`."""
        text: str = self.to_tokenizer().to_str(pretty=True)
        return text

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "tokenizer.json") -> CharVocab:
        """Build a vocabulary from what `to_json` returned.

        Args:
            text: the JSON, or its bytes in UTF-8.
            source: name of the file, for error messages.

        Raises:
            CharEmbedError: the text is not a tokenizer, or does more than map single characters to ids from 1 on, with
                0 for `<unk>`.
        """
        try:
            tokenizer = parse_json(text)
            model = tokenizer["model"]
            table = model["vocab"]
            # Anything that would split, merge or change characters makes ids that this class would not.
            is_plain = model["type"] == "BPE" and model["unk_token"] == UNKNOWN and not model["merges"]
            is_plain = is_plain and not model.get("byte_fallback") and not model.get("continuing_subword_prefix")
            is_plain = is_plain and not any(
                tokenizer.get(step) for step in ("added_tokens", "normalizer", "pre_tokenizer")
            )
            by_id = sorted(table, key=table.__getitem__)
            in_order = [table[token] for token in by_id] == list(range(len(table))) and by_id[:1] == [UNKNOWN]
            # JSON's 1.0 and true equal 1 in Python.
            in_order = in_order and all(type(value) is int for value in table.values())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CharEmbedError(f"{source} is not a tokenizer.json: {type(error).__name__}: {error}") from error
        if not is_plain:
            raise CharEmbedError(f"{source} is not a character vocabulary: expected BPE without merges and other steps")
        if not in_order:
            raise CharEmbedError(f"{source} is not a character vocabulary: ids must run from 0, {UNKNOWN} first")
        try:
            return cls(by_id[1:])
        except CharEmbedError as error:
            raise CharEmbedError(f"{source} is not a character vocabulary: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`; the file is complete or, after an error, as it was.

        Raises:
            CharEmbedError: the path is that of a folder, a device, a pipe or a socket.
            OSError: the file cannot be written.
        """
        atomic_write(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharVocab:
        """Read a `tokenizer.json` that `save` has written.

        Raises:
            FileNotFoundError: there is no such file.
            CharEmbedError: the file is not a character vocabulary.
        """
        return cls.from_json(read_file(Path(path), MAX_JSON_BYTES), source=str(path))


@dataclass
class VocabConfig:
    """The vocabulary: the characters that get ids of their own. All others are read as <unk>."""

    coverage: float = 0.9999
    """Share of all characters of the text, held-out text included, that must get ids of their own, above 0 and at most
    1. The default leaves the rarest characters out, up to one in 10,000 read, so that the model learns to read <unk>;
    with 1.0 it never meets one."""
    max_size: int | None = None
    """Upper bound on the number of ids, <unk> included, between 3 and 65,536; the rarest characters are dropped. By
    default coverage alone decides."""
    path: str | None = None
    """A tokenizer.json to use instead of building a vocabulary from the text, such as that of another model."""
    grow: bool = False
    """Extend the vocabulary of path or init: append the characters that a vocabulary built from the text would have.
    Known characters keep their ids."""

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size > MAX_IDS:
            raise CharEmbedError(f"vocab.max_size must be at most {MAX_IDS}, got {self.max_size}")

    def build(self, counter: CharacterCounter, initial: CharVocab | None) -> CharVocab:
        """Return the vocabulary of a text.

        Args:
            counter: the characters of the text.
            initial: the vocabulary to use, or to extend if `grow` is set; None to build a new one.
        """
        if initial is not None and not self.grow:
            return initial
        own = CharVocab.from_counts(counter, coverage=self.coverage, max_size=self.max_size or MAX_IDS)
        if initial is None:
            return own
        # Appended, not merged in order: the rows of the embedding of `initial` stay where they are.
        known = set(initial.characters)
        return CharVocab([*initial.characters, *(c for c in own.characters if c not in known)][: MAX_IDS - 1])
