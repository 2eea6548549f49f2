"""Read static vectors of other programs: word2vec, GloVe, fastText, model2vec."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.static_vectors.bag_of_subwords import with_ngrams
from charembed.static_vectors.word_vectors import FILE_NAME, StaticVectors, Vectors
from charembed.text.opening import open_binary, read_errors
from charembed.util.checks import check_integer
from charembed.util.files import user_path
from charembed.util.reading import check_regular, read_file
from charembed.util.tensor_files import read_tensors

logger = logging.getLogger(__name__)

_MAX_LINE = 2**20
"""Bytes of the longest line that is read: a compressed file may hold a line that fills the memory."""
_TOKENIZER, _WEIGHTS = "tokenizer.json", "model.safetensors"
"""Files of a model2vec folder."""


def load_static_vectors(
    path: str | os.PathLike[str], limit: int | None = None, *, buckets: int = 0, min_n: int = 2, max_n: int = 4
) -> StaticVectors:
    """Read static vectors: those of a model folder, or anything that `read_static_vectors` reads.

    Args:
        path: a model folder or its file `static_vectors.safetensors`, which are taken as they are; a text file of
            word2vec, fastText or GloVe; or a folder of model2vec.
        limit: maximum number of words; the first ones are taken, which are the most frequent in most files.
        buckets: number of buckets for the n-grams of words. Their vectors are fitted to those of the known words, so
            that all other words have vectors too; with 0 (default), those are zeros.
        min_n: length of the shortest n-grams, in characters.
        max_n: length of the longest n-grams.

    Raises:
        CharEmbedError: the file cannot be read, or contains something else.
    """
    file = user_path(path)
    if (file / FILE_NAME).is_file():
        file = file / FILE_NAME
    if file.suffix == ".safetensors" and not file.is_dir():
        with read_errors(file):
            content = read_file(file)
        return StaticVectors.from_bytes(content, str(file))
    words, vectors = read_static_vectors(file, limit)
    try:
        return with_ngrams(words, vectors, buckets, min_n, max_n, rows=len(words))
    except CharEmbedError as error:
        raise CharEmbedError(f"{file}: {error}") from error


def read_static_vectors(path: str | os.PathLike[str], limit: int | None = None) -> tuple[list[str], Vectors]:
    """Read words and their vectors.

    Args:
        path: a text file of word2vec, fastText (`.vec`) or GloVe, with one word and its numbers on each line, perhaps
            compressed (.gz, .xz, .bz2, .zst); or a folder of model2vec, of which the words are those tokens that are
            words by themselves. Their binary files are not supported.
        limit: maximum number of words; the first ones are taken, which are the most frequent in most files.

    Returns:
        The words, none of them twice, and their vectors. Shape: (words, dim)

    Raises:
        CharEmbedError: the file cannot be read, or contains something else.
    """
    if limit is not None:
        check_integer("limit", limit)
    file = user_path(path)
    if file.is_dir():
        return _read_model2vec(file, limit)
    with read_errors(file):
        check_regular(file)
        with open_binary(file) as content:
            return _read_text(file, content, limit)


@dataclass
class _Words:
    """Words with their vectors, as they are read."""

    vectors: dict[str, Vectors] = field(default_factory=dict)
    lines: int = 0
    skipped: int = 0
    """Lines whose word is empty, is not UTF-8 or has occurred before."""

    def add(self, word: bytes, vector: Vectors) -> None:
        self.lines += 1
        try:
            decoded = word.decode()
        except UnicodeDecodeError:  # the programs of word2vec and fastText cut long words between any two bytes
            decoded = ""
        if decoded and decoded not in self.vectors:
            self.vectors[decoded] = vector
        else:
            self.skipped += 1


def _read_text(file: Path, content: IO[bytes], limit: int | None) -> tuple[list[str], Vectors]:
    """Read a text file. All but those of GloVe begin with a line that has the numbers of words and of dimensions."""
    lines = _iter_lines(file, content)
    first = next(lines, b"")
    fields = first.split()
    has_header = len(fields) == 2 and all(field.isdigit() and len(field) < 12 for field in fields)
    announced, dim = map(int, fields) if has_header else (None, len(fields) - 1)
    if dim < 1:
        raise CharEmbedError(f"{file} is not a text file of word vectors: its first line has {len(fields)} field(s)")
    numbered = enumerate(lines, start=2) if has_header else enumerate(itertools.chain([first], lines), start=1)
    words = _Words()
    for number, line in numbered:
        try:
            words.add(*_parse_line(line, dim))
        except ValueError as error:
            raise CharEmbedError(f"{file}, line {number}: expected a word and {dim} numbers: {error}") from error
        if len(words.vectors) == limit:
            break
    else:
        if announced is not None and words.lines != announced:
            raise CharEmbedError(f"{file} is incomplete: it has {words.lines} of {announced} words")
    if words.skipped:
        logger.warning("%s: skipped %d words that occur twice, are empty or not UTF-8", file, words.skipped)
    if not words.vectors:
        raise CharEmbedError(f"{file} contains no words")
    return list(words.vectors), np.array(list(words.vectors.values()))


def _parse_line(line: bytes, dim: int) -> tuple[bytes, Vectors]:
    """Return the word of a line, which may be empty or contain spaces, and its vector. Shape: (dim,)

    Raises:
        ValueError: the line has another form, or a number is not finite.
    """
    fields = line.rsplit(None, dim)
    if len(fields) < dim:
        raise ValueError(f"found {len(fields)} field(s)")
    with np.errstate(over="ignore"):
        vector = np.array([float(number) for number in fields[-dim:]], np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a number is not finite")
    return (fields[0] if len(fields) > dim else b""), vector


def _iter_lines(file: Path, content: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file.

    Raises:
        CharEmbedError: a line is too long to be a word and its vector.
    """
    while line := content.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise CharEmbedError(f"{file} is not a text file of word vectors: it has a line of a megabyte")
        yield line


def _read_model2vec(folder: Path, limit: int | None) -> tuple[list[str], Vectors]:
    """Read the tokens of a model2vec folder that are words by themselves, in the order of the vocabulary."""
    tokenizer = _read_tokenizer(folder / _TOKENIZER)
    table, row_of, weights = _read_table(folder / _WEIGHTS)
    special = {id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    ids = sorted(id_ for id_ in tokenizer.get_vocab(with_added_tokens=True).values() if id_ not in special)
    # A word is a token if the tokenizer turns its text into this token alone. This holds for any kind of tokenizer,
    # however it marks the tokens that begin or continue a word.
    candidates = [tokenizer.decode([id_], skip_special_tokens=False).strip() for id_ in ids]
    encodings = tokenizer.encode_batch(candidates, add_special_tokens=False)
    words: dict[str, int] = {}
    for word, id_, encoding in zip(candidates, ids, encodings, strict=True):
        if encoding.ids == [id_] and word and "\n" not in word and "\ufffd" not in word:
            words.setdefault(word, id_)
        if len(words) == limit:
            break
    if not words:
        raise CharEmbedError(f"{folder}: no token of its tokenizer is a word by itself")
    chosen = np.array(list(words.values()))
    if chosen.max() >= len(row_of) or row_of[chosen].max() >= len(table) or row_of[chosen].min() < 0:
        raise CharEmbedError(f"{folder}: its tokenizer has tokens without vectors")
    vectors = table[row_of[chosen]].astype(np.float32)
    if weights is not None:
        vectors *= weights[chosen, None]
    return list(words), vectors


def _read_tokenizer(path: Path) -> Any:
    """Return a tokenizer.

    Raises:
        CharEmbedError: the file is missing or damaged.
    """
    import tokenizers

    with read_errors(path):
        content = read_file(path)
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library's errors have no class of their own
        raise CharEmbedError(f"{path} is not a tokenizer: {error}") from error


def _read_table(path: Path) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32] | None]:
    """Return the table of vectors, the row of each token, and the weight of each token, if there are weights.

    Shape: (rows, dim), (tokens,), (tokens,)

    Raises:
        CharEmbedError: the file is missing or damaged, or is not of model2vec.
    """
    with read_errors(path):
        content = read_file(path)
    try:
        tensors, _ = read_tensors(content)
        table = tensors["embeddings"]
    except (ValueError, KeyError) as error:
        raise CharEmbedError(f"{path} does not contain the vectors of model2vec: {error}") from error
    # Later versions share vectors among tokens, and store how much each token counts in the mean of a text.
    row_of, weights = tensors.get("mapping", np.arange(len(table) if table.ndim else 0)), tensors.get("weights")
    is_numeric = table.dtype == np.int8 or np.issubdtype(table.dtype, np.floating)
    fits = table.ndim == 2 and row_of.ndim == 1 and np.issubdtype(row_of.dtype, np.integer)
    fits = fits and (weights is None or (weights.shape == row_of.shape and np.issubdtype(weights.dtype, np.floating)))
    if not is_numeric or not fits:
        raise CharEmbedError(f"{path} does not contain the vectors of model2vec: wrong types or shapes")
    return table, row_of.astype(np.int64), None if weights is None else weights.astype(np.float32)
