"""The quantities that training minimises: the loss of the next character and, on request, of the next words."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charembed.dataset.word_marks import MAX_WORDS
from charembed.dataset.word_targets import WordPosition, WordPrediction, WordTargets
from charembed.errors import CharEmbedError
from charembed.lm.model import CharLM
from charembed.recurrent import State
from charembed.util.checks import check_choice
from charembed.util.streams import send

_PROJECTION_SIZE = 256
"""Dimensions of the linear layer between the states and the words."""
_CUTOFFS = (2000, 10_000)
"""Numbers of words at which the clusters of the adaptive softmax end. Rarer words have narrower vectors."""


@dataclass
class ObjectiveConfig:
    """What the language models learn to predict besides the next character."""

    words: int = 0
    """Also predict the next words, among this number of frequent words of the training text; 0 for the next character
    alone. Word vectors then know more about which words are used alike. Training takes longer, embedding does not.
    30000 suits tens of megabytes of text. At most 32,766."""
    ahead: int = 1
    """Number of words to predict after each word, in the order of reading."""
    weight: float = 1.0
    """Weight of the words' loss relative to that of the characters."""
    position: WordPosition = "both"
    """State that predicts the next words: word (at the last character of the word before them), separator (at the
    character after that), or both (one of the two at random for each word). It matters for word vectors that are read
    from the same states (the readout)."""

    def __post_init__(self) -> None:
        if self.words != 0 and not 2 <= self.words <= MAX_WORDS:
            raise CharEmbedError(f"objective.words must be 0 or from 2 to {MAX_WORDS}, got {self.words}")
        if self.ahead < 1:
            raise CharEmbedError(f"objective.ahead must be positive, got {self.ahead}")
        if not 0 < self.weight < float("inf"):
            raise CharEmbedError(f"objective.weight must be positive, got {self.weight}")
        check_choice("objective.position", self.position, get_args(WordPosition))

    @property
    def prediction(self) -> WordPrediction | None:
        """Which words are predicted, and from which states; None for characters alone."""
        return WordPrediction(self.ahead, self.position) if self.words else None


def next_character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next character over a window, in nats.

    Args:
        logits: unnormalised scores of each character id, of any floating-point type; the loss is computed in float32.
            Shape: (seq_len, batch, vocab_size)
        targets: ids of the characters that follow. Shape: (seq_len, batch)

    Returns:
        Shape: ()
    """
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class WordHead(nn.Module):
    """Predicts words from states: a linear layer and an adaptive softmax (Grave et al. 2017). Used in training only."""

    def __init__(self, state_size: int, counts: NDArray[np.int64]) -> None:
        """
        Args:
            state_size: dimensions of a state.
            counts: frequencies of the words, most frequent first, at least two: the initial biases are the logarithms
                of their shares. Shape: (words,)
        """
        super().__init__()
        cutoffs = [cutoff for cutoff in _CUTOFFS if cutoff < len(counts)]
        self.projection = nn.Linear(state_size, _PROJECTION_SIZE)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            _PROJECTION_SIZE, len(counts), cutoffs or [len(counts) - 1], head_bias=True
        )
        # The head chooses among the most frequent words and the clusters of all others.
        bounds = [0, *self.softmax.cutoffs]
        clusters = [counts[start:stop].sum() for start, stop in pairwise(bounds[1:])]
        frequencies = np.concatenate([counts[: bounds[1]], clusters]) / counts.sum()
        with torch.no_grad():
            self.softmax.head.bias.copy_(torch.from_numpy(np.log(frequencies)))
        # Under autocast, scores leave the matrix products in bfloat16: too coarse for a softmax.
        for scorer in (self.softmax.head, *self.softmax.tail):
            scorer.register_forward_hook(_to_float32)

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Return the cross-entropy of words, in nats, in float32.

        Args:
            states: Shape: (targets, state_size)
            words: numbers of the words. Shape: (targets,)

        Returns:
            Shape: (targets,)
        """
        log_likelihoods: Tensor = self.softmax(self.projection(states).float(), words).output
        return -log_likelihoods


def _to_float32(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()


def word_loss(head: WordHead, states: Tensor, words: WordTargets) -> tuple[Tensor, int]:
    """Return the sum of the losses of the words of a window, in nats, and their number.

    Args:
        head: predicts the words.
        states: the states of the window. Shape: (seq_len, batch, state_size)
        words: the states that predict, and the words.
    """
    # One row for each state and each of the words after it that is frequent.
    rows, columns = torch.nonzero(words.words >= 0, as_tuple=True)
    selected = states.flatten(0, 1)[send(words.positions[rows], states.device)]
    losses: Tensor = head(selected, send(words.words[rows, columns], states.device))
    return losses.sum(), len(rows)


class WindowLoss(NamedTuple):
    """The losses of a window."""

    characters: Tensor
    """Mean loss of a character, in nats. Shape: ()"""
    words: Tensor
    """Sum of the losses of the words, in nats; 0 without words. Shape: ()"""
    word_count: int
    """Number of words predicted."""
    total: Tensor
    """What training minimises. Shape: ()"""


class Objective(nn.Module):
    """A language model with the losses that it is trained to minimise."""

    def __init__(self, lm: CharLM, config: ObjectiveConfig, head: WordHead | None) -> None:
        super().__init__()
        self.lm = lm
        self.head = head
        self._config = config

    def forward(
        self, inputs: Tensor, targets: Tensor, words: WordTargets | None, state: State | None
    ) -> tuple[WindowLoss, Any]:
        """Return the losses of a window and the state after it.

        The total is the mean loss of the characters plus weight · (sum of the words' losses) / ahead, divided by the
        number of characters.

        Args:
            inputs: characters to read. Shape: (seq_len, batch)
            targets: characters that follow. Shape: (seq_len, batch)
            words: words that follow; None if only characters are predicted.
            state: state of the recurrence before the window; None for the zero state.
        """
        states, state = self.lm.hidden_states(inputs, state)
        states = self.lm.dropout(states)
        characters = next_character_loss(self.lm.decoder(states), targets)
        if self.head is None or words is None:
            return WindowLoss(characters, torch.zeros_like(characters), 0, characters), state
        total_words, word_count = word_loss(self.head, states, words)
        # Processes average the gradients of all weights, so each must be used, however few words there are.
        unused = sum(parameter.flatten()[0] * 0.0 for parameter in self.head.parameters())
        scale = self._config.weight / (self._config.ahead * inputs.numel())
        total = characters + scale * total_words + unused
        return WindowLoss(characters, total_words, word_count, total), state
