"""Give words without a vector of their own one, from the vectors of words that share parts with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from charembed.static_vectors.ngrams import MAX_BUCKETS, ngram_buckets
from charembed.static_vectors.word_vectors import StaticVectors
from charembed.util.checks import check_integer

_RIDGE = 10.0
"""Penalty on the squares of the vectors, relative to the mean weight of a row."""
_ITERATIONS = 15


def fit_subwords(
    vectors: NDArray[np.float32],
    subwords: NDArray[np.int64],
    lengths: NDArray[np.int64],
    count: int,
    *,
    ridge: float = _RIDGE,
    iterations: int = _ITERATIONS,
) -> NDArray[np.float32]:
    """Return vectors of subwords whose means are nearest to the vectors of words, by ridge regression.

    This is the bag of subwords of Zhao, Mudgal & Liang 2018 ("Generalizing word embeddings using bag of subwords"),
    fitted by conjugate gradients. Stopping early shrinks the vectors of rare subwords, as the penalty does.

    Args:
        vectors: vectors of words. Shape: (words, dim)
        subwords: ids of the subwords of all words, those of the first word first. Shape: (subwords,)
        lengths: number of subwords of each word. Shape: (words,)
        count: number of different ids.
        ridge: penalty on the squares of the vectors, relative to the mean weight of a subword.
        iterations: number of steps.

    Returns:
        Shape: (count, dim)
    """
    bags = _Bags(subwords, lengths, count)
    penalty = ridge * float(bags.squares) / count
    # The penalty shrinks towards the mean word: a bag of means is the mean too, so it can be added to every subword.
    mean = torch.from_numpy(vectors.mean(0))
    # Conjugate gradients on (AᵀA + penalty) B = AᵀV, for all dimensions side by side.
    solution = torch.zeros(count, vectors.shape[1])
    residual = bags.transposed(torch.from_numpy(vectors) - mean)
    direction, error = residual.clone(), residual.square().sum(0)
    for _ in range(iterations):
        product = bags.transposed(bags.means(direction)) + penalty * direction
        # A dimension that is solved has no error left, and stays as it is.
        step = error / (direction * product).sum(0).clamp_min(torch.finfo(torch.float32).tiny)
        solution += step * direction
        residual -= step * product
        previous, error = error, residual.square().sum(0)
        direction = residual + error / previous.clamp_min(torch.finfo(torch.float32).tiny) * direction
    result: NDArray[np.float32] = (solution + mean).numpy()
    return result


def with_ngrams(
    words: Sequence[str], vectors: NDArray[np.float32], buckets: int, min_n: int, max_n: int, rows: int
) -> StaticVectors:
    """Return static vectors in which words without a row of their own have vectors too, from their n-grams.

    Args:
        words: words, most frequent first.
        vectors: their vectors. Shape: (words, dim)
        buckets: number of buckets of n-grams; 0 for none.
        min_n: length of the shortest n-grams, in characters.
        max_n: length of the longest n-grams.
        rows: number of words that get rows of their own, the first ones. All of them tell what n-grams mean.

    Raises:
        CharEmbedError: as `StaticVectors.from_arrays`; or `buckets` is out of range.
    """
    table = None
    if check_integer("buckets", buckets, minimum=0, maximum=MAX_BUCKETS):
        table = fit_subwords(vectors, *ngram_buckets(words, buckets, min_n, max_n), buckets)
    return StaticVectors.from_arrays(words[:rows], vectors[:rows], table, min_n, max_n)


class _Bags:
    """The sparse matrix A that turns vectors of subwords into the mean of each word. Shape: (words, count)"""

    def __init__(self, subwords: NDArray[np.int64], lengths: NDArray[np.int64], count: int) -> None:
        words = np.repeat(np.arange(len(lengths)), lengths)
        weights = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
        self.squares = np.square(weights).sum()
        """Sum of the squares of all entries."""
        self._rows = _gather(subwords, lengths, weights)
        # The transposed matrix: the same entries by subword.
        order = np.argsort(subwords, kind="stable")
        self._columns = _gather(words[order], np.bincount(subwords, minlength=count), weights[order])

    def means(self, subword_vectors: Tensor) -> Tensor:
        """Return A · B. Shape: (count, dim) to (words, dim)"""
        return _weighted_sums(subword_vectors, self._rows)

    def transposed(self, word_vectors: Tensor) -> Tensor:
        """Return Aᵀ · V. Shape: (words, dim) to (count, dim)"""
        return _weighted_sums(word_vectors, self._columns)


def _gather(ids: NDArray[np.int64], lengths: NDArray[np.int64], weights: NDArray[np.float32]) -> tuple[Tensor, ...]:
    """Return the arguments of `embedding_bag`: ids, offsets of the bags and weights."""
    return torch.from_numpy(ids), torch.from_numpy(np.cumsum(lengths) - lengths), torch.from_numpy(weights)


def _weighted_sums(vectors: Tensor, bags: tuple[Tensor, ...]) -> Tensor:
    ids, offsets, weights = bags
    return functional.embedding_bag(ids, vectors, offsets, mode="sum", per_sample_weights=weights)
