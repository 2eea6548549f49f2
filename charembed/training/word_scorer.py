"""Measure how well words are predicted in validation text, while its characters are scored."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from charembed.dataset.word_marks import WordMarks
from charembed.dataset.word_targets import WordPrediction, find_targets
from charembed.lm.scoring import DEFAULT_LIMITS, ScoringLimits
from charembed.training.objective import WordHead, word_loss

MAX_STATES = 20_000
"""About how many states are scored at most: enough for a standard error of 0.02 nats, and a small part of the time
that the characters of half a megabyte take."""


class WordScorer:
    """Sums the losses of words over the states that `score` computes; an `Observer` of one scoring.

    Of a long text, words are scored in some chunks at equal distances.
    """

    def __init__(
        self,
        head: WordHead,
        marks: WordMarks,
        prediction: WordPrediction,
        *,
        backward: bool,
        limits: ScoringLimits = DEFAULT_LIMITS,
        max_states: int = MAX_STATES,
    ) -> None:
        """
        Args:
            head: predicts the words.
            marks: the marks of the words of the text, in the order of reading. Shape: (characters,)
            prediction: which words to predict, and from which states.
            backward: whether the text is read from its end.
            limits: how the text is cut to score it.
            max_states: about how many states to score, if there are more.
        """
        self._head = head
        self._limits = limits
        # The state at index i is the one after character i - 1. The zero at the end shows that a last word ends there.
        after = np.pad(marks, 1)
        self._lanes, length = limits.lanes_of(len(marks))
        starts = [lane * length for lane in range(self._lanes)]
        lanes = [after[start : start + length + prediction.margin] for start in starts]
        self._targets = find_targets(lanes, starts, 0, length, prediction, backward=backward)
        self._every = max(1, -(-len(self._targets.positions) // max_states))
        self._chunk = 0
        self._nats = 0.0
        self._count = 0

    def __call__(self, states: Tensor) -> None:
        """Add the words that the states of the next chunk predict."""
        chunk = self._chunk
        self._chunk += 1
        if chunk % self._every == 0:
            nats, count = word_loss(self._head, states, self._targets.window(chunk, self._limits.chunk, self._lanes))
            self._nats += nats.item()
            self._count += count

    @property
    def nats_per_word(self) -> float | None:
        """Mean loss of the words scored; None if there were none."""
        return self._nats / self._count if self._count else None
