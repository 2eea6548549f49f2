"""Static vectors of words, with a vector for any other word from its character n-grams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.static_vectors.ngrams import MAX_CHARACTERS, MAX_N, ngram_buckets
from charembed.util.checks import check_integer, shown
from charembed.util.reading import parse_json
from charembed.util.tensor_files import MAX_VALUE, read_tensors

Vectors = NDArray[np.float32]

FILE_NAME = "static_vectors.safetensors"
"""Name of the file in a model folder."""
_VERSION = 1
"""Version of the file format."""
_METADATA = "static_vectors"
"""Key of the metadata in the file. One key with JSON: safetensors writes several in random order."""
_CACHE_BYTES = 8_000_000
"""Size of the vectors of recent words without a row of their own."""
_CACHED_CHARACTERS = 64
"""Length of the longest words that are cached."""
_GATHERED_ROWS = 8192
"""Rows of n-grams that are gathered at a time."""


class StaticVectors:
    """One vector per word, stored in 8 bits per dimension.

    Known words have rows of their own. Any other word has the mean of the rows of its character n-grams, which are
    hashed into buckets as in fastText (Bojanowski et al. 2017), or zeros if there are no buckets. Threads may share an
    object.
    """

    def __init__(
        self,
        words: Sequence[str],
        rows: NDArray[np.int8],
        scales: NDArray[np.float32],
        min_n: int = 3,
        max_n: int = 6,
    ) -> None:
        """
        Args:
            words: the known words, whose rows come first; the other rows are those of the buckets.
            rows: the vectors divided by their scales. Shape: (rows, dim)
            scales: the scale of each row. Shape: (rows,)
            min_n: length of the shortest n-grams, in characters.
            max_n: length of the longest n-grams.

        Raises:
            CharEmbedError: the arrays have other types or shapes, a value is not finite, or a word is empty, occurs
                twice or contains a line break.
        """
        if rows.dtype != np.int8 or rows.ndim != 2 or 0 in rows.shape:
            raise CharEmbedError(f"rows must be int8 in two dimensions, got {rows.dtype} of shape {rows.shape}")
        if scales.dtype != np.float32 or scales.shape != rows.shape[:1]:
            raise CharEmbedError(f"scales must be {len(rows)} of float32, got {scales.dtype} of shape {scales.shape}")
        if not ((scales >= 0) & (scales <= MAX_VALUE)).all():  # false for NaN too
            raise CharEmbedError(f"scales must be from 0 to {MAX_VALUE:g}")
        self.min_n, self.max_n = check_integer("min_n", min_n), check_integer("max_n", max_n)
        if not min_n <= max_n <= MAX_N:
            raise CharEmbedError(f"max_n must be from min_n ({min_n}) to {MAX_N}, got {max_n}")
        self._row_of = _index(words)
        if len(self._row_of) > len(rows):
            raise CharEmbedError(f"{len(self._row_of)} words have only {len(rows)} rows")
        self.rows = rows
        """Vectors divided by their scales, those of the buckets last. Shape: (rows, dim)"""
        self.scales = scales
        """Scale of each row. Shape: (rows,)"""
        self._cache: dict[str, Vectors] = {}

    @classmethod
    def from_arrays(
        cls,
        words: Sequence[str],
        vectors: NDArray[Any],
        buckets: NDArray[Any] | None = None,
        min_n: int = 3,
        max_n: int = 6,
    ) -> StaticVectors:
        """Store vectors in 8 bits per dimension: each is divided by 1/127 of its largest absolute value, and rounded.

        Args:
            words: the known words.
            vectors: their vectors. Shape: (words, dim)
            buckets: vectors of the buckets of n-grams; none by default. Shape: (buckets, dim)
            min_n: length of the shortest n-grams, in characters.
            max_n: length of the longest n-grams.

        Raises:
            CharEmbedError: the shapes do not match, a value is not finite, or a word is empty, occurs twice or contains
                a line break.
        """
        if vectors.ndim != 2 or len(vectors) != len(words):
            raise CharEmbedError(f"{len(words)} words need as many vectors, got an array of shape {vectors.shape}")
        parts = [vectors] if buckets is None or not len(buckets) else [vectors, buckets]
        if parts[-1].ndim != 2 or parts[-1].shape[1] != vectors.shape[1]:
            raise CharEmbedError(
                f"the vectors of words have {vectors.shape[1]} dimensions, those of buckets have shape"
                f" {parts[-1].shape}"
            )
        quantized = [_quantize(part) for part in parts]
        rows, scales = (np.concatenate(arrays) for arrays in zip(*quantized, strict=True))
        return cls(words, rows, scales, min_n, max_n)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the cache."""
        return StaticVectors, (self.words, self.rows, self.scales, self.min_n, self.max_n)

    def __repr__(self) -> str:
        return f"StaticVectors(words={len(self._row_of)}, buckets={self.buckets}, dim={self.dim})"

    @property
    def words(self) -> list[str]:
        """The known words, in the order of their rows."""
        return list(self._row_of)

    @property
    def dim(self) -> int:
        """Number of dimensions of a vector."""
        return int(self.rows.shape[1])

    @property
    def buckets(self) -> int:
        """Number of buckets of n-grams."""
        return len(self.rows) - len(self._row_of)

    def __len__(self) -> int:
        """Return the number of known words."""
        return len(self._row_of)

    def __contains__(self, word: object) -> bool:
        """Return whether a word is known as it is spelled."""
        return word in self._row_of

    def lookup(self, words: Sequence[str]) -> Vectors:
        """Return the vectors of words.

        A word has its own row, or that of its lower-case form, or the mean of the rows of its n-grams; zeros if it has
        no n-grams either.

        Shape: (words, dim)
        """
        row_of = self._row_of
        rows = [*map(row_of.get, words)]
        unknown = [k for k, row in enumerate(rows) if row is None]
        others: dict[str, list[int]] = {}  # positions of the words that have no row
        for k in unknown:
            word = words[k]
            row = row_of.get(word.lower())
            if row is None:
                others.setdefault(word, []).append(k)
            rows[k] = row or 0
        indices = np.array(rows, np.int64)
        vectors: Vectors = self.rows[indices] * self.scales[indices, None]
        if others:
            for positions, vector in zip(others.values(), self._from_ngrams(list(others)), strict=True):
                vectors[positions] = vector
        return vectors

    def scaled(self, factor: float) -> StaticVectors:
        """Return the vectors multiplied by a positive number. The rows are shared.

        Raises:
            CharEmbedError: the products are too large, or the factor is not positive and finite.
        """
        if not 0 < factor < np.inf:
            raise CharEmbedError(f"a factor must be positive and finite, got {factor}")
        return StaticVectors(self.words, self.rows, self.scales * np.float32(factor), self.min_n, self.max_n)

    def _from_ngrams(self, words: Sequence[str]) -> list[Vectors]:
        """Return the vectors of different words from their n-grams, or from the cache. Shape: (dim,) each"""
        # Another thread may empty the cache at any time.
        cached = [self._cache.get(word) for word in words]
        missing = [word for word, vector in zip(words, cached, strict=True) if vector is None]
        computed = iter(self._compute(missing))
        vectors = [next(computed) if vector is None else vector for vector in cached]
        if len(self._cache) > _CACHE_BYTES // (4 * self.dim):
            self._cache.clear()
        for word, vector in zip(words, vectors, strict=True):
            if len(word) <= _CACHED_CHARACTERS:
                self._cache[word] = vector
        return vectors

    def _compute(self, words: Sequence[str]) -> Iterator[Vectors]:
        """Yield the mean of the rows of the n-grams of each word. Shape: (dim,) each"""
        if not self.buckets:
            yield from np.zeros((len(words), self.dim), np.float32)
            return
        per_character = self.max_n - self.min_n + 1
        for group in _groups(words, _GATHERED_ROWS // per_character):
            buckets, counts = ngram_buckets(group, self.buckets, self.min_n, self.max_n)
            rows = len(self._row_of) + buckets
            gathered: Vectors = self.rows[rows] * self.scales[rows, None]
            # Sum the rows of each word. Words without n-grams, which reduceat cannot represent, have none to sum.
            sums = np.zeros((len(group), self.dim), np.float32)
            starts = (counts.cumsum() - counts)[counts > 0]
            if len(starts):
                sums[counts > 0] = np.add.reduceat(gathered, starts, axis=0)
            # A copy of each, so that the cache does not keep the whole group.
            yield from (row.copy() for row in sums / np.maximum(counts, 1)[:, None].astype(np.float32))

    def sizes(self) -> dict[str, int]:
        """Return the numbers of words, buckets and dimensions, as reports and model folders state them."""
        return {"words": len(self), "buckets": self.buckets, "dimensions": self.dim}

    def digest(self) -> str:
        """Return a hash of everything that the vectors depend on."""
        digest = hashlib.sha256(json.dumps([self.words, self.rows.shape, self.min_n, self.max_n]).encode())
        for array in (self.rows, self.scales):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of a safetensors file with the vectors."""
        tensors: dict[str, NDArray[Any]] = {
            "vectors": np.ascontiguousarray(self.rows),
            "scales": np.ascontiguousarray(self.scales),
            "words": np.frombuffer("\n".join(self._row_of).encode(), np.uint8),
        }
        metadata = {"version": _VERSION, "words": len(self), "min_n": self.min_n, "max_n": self.max_n}
        return safetensors.numpy.save(tensors, {_METADATA: json.dumps(metadata)})

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> StaticVectors:
        """Read the content of a file that `to_bytes` returned.

        Args:
            content: the bytes of the file.
            source: where they come from, for error messages.

        Raises:
            CharEmbedError: the bytes are not static vectors, or are those of a newer version.
        """
        try:
            tensors, header = read_tensors(content)
            rows, scales, text = (tensors[name] for name in ("vectors", "scales", "words"))
            metadata = _parse_metadata(header)
            count, min_n, max_n = (check_integer(name, metadata[name], 0) for name in ("words", "min_n", "max_n"))
            if metadata["version"] != _VERSION:
                raise CharEmbedError(f"they have version {shown(metadata['version'])}: upgrade charembed")
            if text.dtype != np.uint8:
                raise CharEmbedError(f"their words are {text.dtype}, expected uint8")
            words = text.tobytes().decode().split("\n") if count else []
            if len(words) != count:
                raise CharEmbedError(f"they have {len(words)} words, expected {count}")
            return cls(words, rows, scales, min_n, max_n)
        except (KeyError, TypeError, ValueError) as error:
            raise CharEmbedError(f"{source} does not contain static vectors: {error}") from error
        except CharEmbedError as error:
            raise CharEmbedError(f"{source}: the static vectors cannot be used: {error}") from error


def _index(words: Sequence[str]) -> dict[str, int]:
    """Return the row of each word.

    Raises:
        CharEmbedError: a word is empty, occurs twice, contains a line break or a lone surrogate.
    """
    row_of: dict[str, int] = {}
    for row, word in enumerate(words):
        if not isinstance(word, str) or not word or "\n" in word:
            raise CharEmbedError(
                f"a word must be text of at least one character without line breaks, got {shown(word)}"
            )
        if row_of.setdefault(word, row) != row:
            raise CharEmbedError(f"the word {shown(word)} occurs twice")
    try:
        "".join(row_of).encode()
    except UnicodeEncodeError as error:
        raise CharEmbedError(f"a word cannot be written as UTF-8: {error}") from error
    return row_of


def _quantize(vectors: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return vectors in 8 bits and their scales. Shape: (rows, dim) to (rows, dim), (rows,)"""
    largest = np.abs(vectors).max(axis=1, initial=0).astype(np.float64)
    if not (largest <= MAX_VALUE).all():  # false for NaN too
        raise CharEmbedError(f"vectors contain values that are NaN, infinite or above {MAX_VALUE:g}")
    scales = (largest / 127).astype(np.float32)
    divisors = np.where(scales > 0, scales, np.inf)
    rows = np.empty(vectors.shape, np.int8)
    # In blocks, because the quotients take four to eight times the memory of the result.
    for start in range(0, len(vectors), _GATHERED_ROWS):
        block = slice(start, start + _GATHERED_ROWS)
        rows[block] = np.clip(np.rint(vectors[block] / divisors[block, None]), -127, 127)
    return rows, scales


def _groups(words: Sequence[str], max_characters: int) -> Iterator[Sequence[str]]:
    """Divide words into groups of a limited number of characters, or of one word."""
    start, characters = 0, 0
    for k, word in enumerate(words):
        characters += min(len(word), MAX_CHARACTERS) + 2
        if characters > max_characters and k > start:
            yield words[start:k]
            start, characters = k, min(len(word), MAX_CHARACTERS) + 2
    if start < len(words):
        yield words[start:]


def _parse_metadata(header: dict[str, str]) -> dict[str, Any]:
    """Return what the header of a file says about the vectors."""
    metadata = parse_json(header[_METADATA])
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not an object")
    return metadata
