"""Find the best tags of sentences and their probabilities from the scores of a conditional random field, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
LogSums = NDArray[np.float64]
"""Logarithms of sums over many sequences: in float32, probabilities would be off by a thousandth after 200 words."""


@dataclass(frozen=True)
class TransitionScores:
    """The scores of a conditional random field that do not depend on the words."""

    start: Scores
    """Score of each tag at the first word. Shape: (tags,)"""
    transitions: Scores
    """Score of each tag after each tag, the earlier one first. Shape: (tags, tags)"""
    end: Scores
    """Score of each tag at the last word. Shape: (tags,)"""


class TagLattice:
    """All tag sequences of a batch of sentences, with their probabilities.

    `best_paths` is the algorithm of Viterbi (1967), `marginals` the forward-backward algorithm (Rabiner 1989).
    """

    def __init__(self, emissions: Scores, lengths: NDArray[np.int64], scores: TransitionScores) -> None:
        """
        Args:
            emissions: score of each tag at each word. Shape: (batch, words, tags)
            lengths: number of words of each sentence, at least 1; the rest is padding. Shape: (batch,)
            scores: the scores of the conditional random field.
        """
        self._emissions = emissions
        self._lengths = lengths
        self._scores = scores

    def best_paths(self) -> list[list[int]]:
        """Return the numbers of the most probable tags of each sentence."""
        batch, words, tags = self._emissions.shape
        best = self._scores.start + self._emissions[:, 0]
        # Padding keeps the tag of the word before it, so all sentences can be followed back from the last column.
        previous = np.broadcast_to(np.arange(tags), (words, batch, tags)).copy()
        for t in range(1, words):
            candidates = best[:, :, None] + self._scores.transitions
            is_word = (t < self._lengths)[:, None]
            np.copyto(previous[t], candidates.argmax(axis=1), where=is_word)
            np.copyto(best, candidates.max(axis=1) + self._emissions[:, t], where=is_word)
        path = np.empty((batch, words), dtype=np.int64)
        path[:, -1] = (best + self._scores.end).argmax(axis=1)
        for t in range(words - 1, 0, -1):
            path[:, t - 1] = previous[t][np.arange(batch), path[:, t]]
        return [row[:length].tolist() for row, length in zip(path, self._lengths.tolist(), strict=True)]

    @cached_property
    def marginals(self) -> LogSums:
        """Probability of each tag at each word; meaningless at padding. Shape: (batch, words, tags)"""
        probabilities: LogSums = np.exp(self._alphas + self._betas - self._log_partition[:, None, None])
        return probabilities

    def span_probability(self, sentence: int, start: int, end: int, first_tag: int, inside_tag: int) -> float:
        """Return the probability that a sentence has exactly this entity, whatever tags its other words have.

        Args:
            sentence: number of the sentence in the batch.
            start: the entity's first word.
            end: one past its last word.
            first_tag: number of the tag B of its label.
            inside_tag: number of the tag I of its label, which must not continue the entity.
        """
        emissions, transitions = self._emissions[sentence], self._scores.transitions
        score = float(self._alphas[sentence, start, first_tag])
        tag = first_tag
        for t in range(start + 1, end):
            score += float(transitions[tag, inside_tag] + emissions[t, inside_tag])
            tag = inside_tag
        if end == self._lengths[sentence]:
            score += float(self._scores.end[tag])
        else:
            following = transitions[tag] + emissions[end] + self._betas[sentence, end]
            score += float(_logsumexp(np.delete(following, inside_tag), axis=0))
        return min(1.0, float(np.exp(score - self._log_partition[sentence])))

    @cached_property
    def _alphas(self) -> LogSums:
        """Log of the sum over all beginnings of a sentence up to a word and its tag. Shape: (batch, words, tags)"""
        alphas = np.empty_like(self._emissions, dtype=np.float64)
        alphas[:, 0] = self._scores.start + self._emissions[:, 0]
        for t in range(1, alphas.shape[1]):
            following = _logsumexp(alphas[:, t - 1, :, None] + self._scores.transitions, axis=1)
            alphas[:, t] = np.where((t < self._lengths)[:, None], following + self._emissions[:, t], alphas[:, t - 1])
        return alphas

    @cached_property
    def _betas(self) -> LogSums:
        """Log of the sum over all ends of a sentence after a word and its tag. Shape: (batch, words, tags)"""
        betas = np.empty_like(self._emissions, dtype=np.float64)
        betas[:, -1] = self._scores.end
        for t in range(betas.shape[1] - 2, -1, -1):
            following = self._emissions[:, t + 1] + betas[:, t + 1]
            inner = _logsumexp(self._scores.transitions + following[:, None, :], axis=2)
            betas[:, t] = np.where((t + 1 < self._lengths)[:, None], inner, self._scores.end)
        return betas

    @cached_property
    def _log_partition(self) -> LogSums:
        """Log of the sum over all sequences. Shape: (batch,)"""
        return _logsumexp(self._alphas[:, -1] + self._scores.end, axis=1)


def _logsumexp(values: LogSums, axis: int) -> LogSums:
    largest = values.max(axis=axis, keepdims=True)
    total: LogSums = np.log(np.exp(values - largest).sum(axis=axis)) + largest.squeeze(axis)
    return total
