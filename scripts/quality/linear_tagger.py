"""A linear tagger: multinomial logistic regression over the vectors of a word and its two neighbours.

It has no hidden units, no dropout and no seed: its loss is convex, so the same vectors always give the same score. It
shows what the vectors themselves say, where the scores of a recurrent tagger vary with its seed by a point or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scripts.quality.embedders import EmbeddedSentence

IGNORED = -100
"""Target that the cross-entropy leaves out: the row between two sentences."""
FITTED_WORDS = 50_000
"""Largest number of words that the principal axes are fitted to."""


@dataclass(frozen=True)
class LinearConfig:
    """Settings of the tagger."""

    axes: int = 256
    """Principal axes to keep of a word's vector."""
    c: float = 0.1
    """Inverse strength of the L2 penalty, as scikit-learn defines it: the sum of the words' losses, plus half the
    squared weights divided by this number, is minimized."""
    iterations: int = 200
    """Largest number of iterations of L-BFGS."""


@dataclass(frozen=True)
class Whitening:
    """Principal axes of vectors, each scaled to unit variance, so that the penalty treats all alike."""

    mean: Tensor
    """Mean vector. Shape: (dimensions,)"""
    matrix: Tensor
    """Principal axes, divided by the standard deviation along them. Shape: (dimensions, axes)"""

    @classmethod
    def fit(cls, vectors: Tensor, axes: int) -> Whitening:
        """Fit at most `axes` axes to vectors, leaving out those along which the vectors do not vary.

        Args:
            vectors: a sample of vectors. Shape: (words, dimensions)
            axes: number of axes to keep.
        """
        mean = vectors.mean(dim=0)
        centered = vectors - mean
        # eigh sorts by ascending variance.
        variances, directions = torch.linalg.eigh((centered.T @ centered).double() / len(vectors))
        kept = (variances > 1e-8 * variances[-1]).nonzero()[-axes:, 0].flip(0)
        return cls(mean, (directions[:, kept] / variances[kept].sqrt()).float())


class LinearTagger:
    """Multinomial logistic regression over the principal axes of a word and of the words before and after it."""

    def __init__(self, train: list[EmbeddedSentence], config: LinearConfig) -> None:
        """
        Args:
            train: sentences that give the tags and the principal axes; `fit` trains the weights.
            config: settings.
        """
        self._config = config
        self._tags = sorted({tag for sentence in train for tag in sentence.tags})
        vectors = torch.cat([sentence.vectors for sentence in train])
        self._whitening = Whitening.fit(vectors[:: 1 + len(vectors) // FITTED_WORDS], config.axes)
        axes = self._whitening.matrix.shape[1]
        # Side by side: the weights of the word before, of the word itself and of the word after.
        self._weight = torch.zeros(axes, 3 * len(self._tags), requires_grad=True)
        self._bias = torch.zeros(len(self._tags), requires_grad=True)

    def fit(self, sentences: list[EmbeddedSentence]) -> None:
        """Find the best weights for some sentences, from the current ones. Tags that are unknown are left out."""
        rows = self._rows(sentences)
        number = {tag: k for k, tag in enumerate(self._tags)}
        # One target per word, and one for each row between sentences (see `_rows`).
        targets = []
        for sentence in sentences:
            targets += [number.get(tag, IGNORED) for tag in sentence.tags] + [IGNORED]
        expected = torch.tensor(targets[:-1])
        words = int((expected != IGNORED).sum())
        optimizer = torch.optim.LBFGS(
            [self._weight, self._bias],
            max_iter=self._config.iterations,
            tolerance_grad=1e-6,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            penalty = self._weight.square().sum() / (2 * self._config.c * words)
            loss = nn.functional.cross_entropy(self._scores(rows), expected) + penalty
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def predict(self, sentences: list[EmbeddedSentence]) -> list[list[str]]:
        """Return the most probable tag of each word."""
        with torch.no_grad():
            best = iter(self._scores(self._rows(sentences)).argmax(dim=1).tolist())
        predicted = []
        for sentence in sentences:
            predicted.append([self._tags[next(best)] for _ in range(len(sentence.vectors))])
            next(best, None)  # the row between two sentences
        return predicted

    def _rows(self, sentences: list[EmbeddedSentence]) -> Tensor:
        """Return the whitened vectors of all words, with a row of zeros, the mean, around and between sentences.

        A word at the end of a sentence has that row as its neighbour. Shape: (words + sentences + 1, axes)
        """
        zeros = torch.zeros(1, self._whitening.matrix.shape[1])
        rows = [zeros]
        for sentence in sentences:
            rows += [(sentence.vectors - self._whitening.mean) @ self._whitening.matrix, zeros]
        return torch.cat(rows)

    def _scores(self, rows: Tensor) -> Tensor:
        """Return the score of each tag at each row but the first and the last. Shape: (rows - 2, tags)"""
        before, own, after = (rows @ self._weight).chunk(3, dim=1)
        return before[:-2] + own[1:-1] + after[2:] + self._bias
