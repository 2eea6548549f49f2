"""Word vectors of labelled sentences: computed once and stored, or computed anew with gradients."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_encoder import word_vectors
from charembed.static_vectors import StaticVectors
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.tagger import input_size, with_static
from charembed.util.digests import update_from
from charembed.util.files import atomic_file
from charembed.util.reading import open_regular

_ROWS = 8192
"""Rows of a file that are read at a time."""

logger = logging.getLogger(__name__)


class Moments(NamedTuple):
    """Mean and variance of word vectors."""

    mean: NDArray[np.float64]
    """Mean of the vectors. Shape: (dim,)"""
    variance: float
    """Mean over the dimensions of their variance."""

    @classmethod
    def of(cls, blocks: Iterable[NDArray[np.floating]]) -> Moments:
        """Compute the moments of vectors that come in blocks of rows.

        Args:
            blocks: at least one vector in all. Shape: (rows, dim) each
        """
        count, total, squares = 0, np.zeros(()), np.zeros(())
        for block in blocks:
            rows = block.astype(np.float64)
            count += len(rows)
            total = total + rows.sum(axis=0)
            squares = squares + np.square(rows).sum(axis=0)
        mean = total / count
        return cls(mean, float((squares / count - np.square(mean)).mean()))


class SentenceVectors(Protocol):
    """Word vectors of sentences, by the number of the sentence."""

    def __getitem__(self, number: int) -> Tensor:
        """Return the word vectors of a sentence. Shape: (words, dim)"""

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        """Return the word vectors of several sentences. Shape: (words, dim) each"""


class StoredVectors:
    """Word vectors in a file, in float16, of which only those in use are in memory. The file ends with its SHA-256."""

    def __init__(self, path: Path, counts: Sequence[int], dim: int) -> None:
        """
        Args:
            path: a file that `write` has written.
            counts: number of words of each sentence.
            dim: number of dimensions of a vector.

        Raises:
            OSError: the file cannot be read.
            ValueError: it has changed since it was written, or is not a regular file.
        """
        with open_regular(path) as file:
            digest = hashlib.sha256()
            update_from(digest, file, path.stat().st_size - digest.digest_size)
            if file.read() != digest.digest():
                raise ValueError("it has changed since it was written")
        self._offsets = [0, *itertools.accumulate(counts)]
        # A file without content cannot be mapped.
        shape = (self._offsets[-1], dim)
        self._rows = np.memmap(path, np.float16, "r", shape=shape) if shape[0] else np.zeros(shape, np.float16)

    @staticmethod
    def write(path: Path, sentences: Iterable[NDArray[np.float32]]) -> None:
        """Write the vectors of sentences, so that the file is complete once it exists.

        Raises:
            OSError: the file cannot be written.
        """
        digest = hashlib.sha256()
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            for vectors in sentences:
                # Values beyond the range of float16, which no state has, become its largest.
                content = np.clip(vectors, -65504, 65504).astype(np.float16).tobytes()
                digest.update(content)
                file.write(content)
            file.write(digest.digest())

    def __getitem__(self, number: int) -> Tensor:
        rows = self._rows[self._offsets[number] : self._offsets[number + 1]]
        return torch.from_numpy(rows.astype(np.float32))

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        return [self[number] for number in numbers]

    def moments(self) -> Moments:
        """Return the mean and the variance of the vectors."""
        return Moments.of(self._rows[start : start + _ROWS] for start in range(0, len(self._rows), _ROWS))


class VectorFolder:
    """A folder with the word vectors of sentences, which are computed once."""

    def __init__(self, folder: Path, embedder: CharEmbedder, static: StaticVectors | None) -> None:
        """
        Args:
            folder: an existing folder.
            embedder: computes the vectors.
            static: static vectors that follow those of the embedder.
        """
        self._folder, self.embedder, self._static = folder, embedder, static

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return input_size(self.embedder, self._static)

    def vectors(self, name: str, sentences: Sequence[LabelledSentence]) -> StoredVectors:
        """Return the vectors of sentences, and compute them unless the folder has them undamaged.

        Args:
            name: what the sentences are, such as train.
            sentences: the sentences.

        Raises:
            OSError: the vectors cannot be written.
        """
        content = json.dumps([sentence.words for sentence in sentences])
        words = None if self._static is None else self._static.digest()
        options = f"{self.embedder.parts} {self.embedder.embedding_dim} {words}"
        digest = hashlib.sha256(f"{self.embedder.pretrained.digest()} {options} {content}".encode("utf-8", "replace"))
        path = self._folder / f"{name}-{digest.hexdigest()[:16]}.bin"
        counts = [len(sentence.words) for sentence in sentences]
        if path.exists():
            try:
                return StoredVectors(path, counts, self.dim)
            except ValueError as error:
                logger.warning(f"{path} cannot be used: {error}; computing the vectors again")
        embedded = self.embedder.iter_embed(sentence.text for sentence in sentences)
        vectors = (with_static(embeddings, self._static) for embeddings in embedded)
        bar = tqdm(vectors, f"embed {name}", len(sentences), unit="sentence", leave=False, smoothing=0, disable=None)
        StoredVectors.write(path, bar)
        return StoredVectors(path, counts, self.dim)


class TrainedVectors:
    """Word vectors that are computed anew for every batch, with gradients for the language models."""

    def __init__(
        self, embedder: CharEmbedder, sentences: Sequence[LabelledSentence], static: StaticVectors | None
    ) -> None:
        """
        Args:
            embedder: an embedder whose language models are trained.
            sentences: the sentences.
            static: static vectors that follow those of the embedder.
        """
        self._embedder = embedder
        self._sentences = sentences
        self._static = static

    def __getitem__(self, number: int) -> Tensor:
        return self.batch([number])[0]

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        sentences = [self._sentences[number] for number in numbers]
        vectors = list(word_vectors(self._embedder, [sentence.text for sentence in sentences], trainable=True))
        if self._static is None:
            return vectors
        static = [torch.from_numpy(self._static.lookup(sentence.words)).to(vectors[0]) for sentence in sentences]
        return [torch.cat(pair, dim=1) for pair in zip(vectors, static, strict=True)]
