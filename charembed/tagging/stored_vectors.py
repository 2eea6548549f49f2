"""Word vectors of labelled sentences: computed once and stored, or computed anew with gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_encoder import word_vectors
from charembed.static_vectors import StaticVectors
from charembed.tagging.labelled_text import LabelledSentence
from charembed.util.files import atomic_file

_ROWS = 8192
"""Rows of a file that are read at a time."""


class SentenceVectors(Protocol):
    """Word vectors of sentences, by the number of the sentence."""

    def __getitem__(self, number: int) -> Tensor:
        """Return the word vectors of a sentence. Shape: (words, dim)"""

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        """Return the word vectors of several sentences. Shape: (words, dim) each"""


class StoredVectors:
    """Word vectors in a file, in float16, of which only those in use are in memory."""

    def __init__(self, path: Path, counts: Sequence[int], dim: int) -> None:
        """
        Args:
            path: a file that `write` has written.
            counts: number of words of each sentence.
            dim: number of dimensions of a vector.
        """
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
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            for vectors in sentences:
                # Values beyond the range of float16, which no state has, become its largest.
                np.clip(vectors, -65504, 65504).astype(np.float16).tofile(file)

    def __getitem__(self, number: int) -> Tensor:
        rows = self._rows[self._offsets[number] : self._offsets[number + 1]]
        return torch.from_numpy(rows.astype(np.float32))

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        return [self[number] for number in numbers]

    def moments(self) -> tuple[NDArray[np.float64], float]:
        """Return the mean of the vectors, and the mean over the dimensions of their variance. Shape: (dim,), ()"""
        total = np.zeros(self._rows.shape[1])
        squares = np.zeros(self._rows.shape[1])
        for start in range(0, len(self._rows), _ROWS):
            rows = self._rows[start : start + _ROWS].astype(np.float64)
            total += rows.sum(axis=0)
            squares += np.square(rows).sum(axis=0)
        mean = total / len(self._rows)
        return mean, float((squares / len(self._rows) - np.square(mean)).mean())


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
