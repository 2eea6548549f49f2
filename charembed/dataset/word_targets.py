"""Find, in windows of text, the words that end there and the words that follow them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.dataset.frequent_words import BEGINS, FIRST, WordMarks

WordPosition = Literal["word", "separator", "both"]
"""Which state predicts the words that follow: the one at a word's last character in the order of reading, the one at
the character after it, or one of the two at random for each word."""


@dataclass(frozen=True)
class WordTargets:
    """The states of a window that predict words, and the words."""

    positions: Tensor
    """Positions of the states in the window, as position · batch + lane. Shape: (states,)"""
    words: Tensor
    """Numbers of the words that follow in the order of reading; -1 for one that is not frequent.
    Shape: (states, ahead)"""


@dataclass(frozen=True)
class BlockTargets:
    """The targets of consecutive windows, sorted by position."""

    positions: NDArray[np.int64]
    """Positions in the block. Shape: (states,)"""
    lanes: NDArray[np.int64]
    """Shape: (states,)"""
    words: NDArray[np.int64]
    """As in `WordTargets`. Shape: (states, ahead)"""

    def window(self, index: int, seq_len: int, batch_size: int) -> WordTargets:
        """Return the targets of one window of the block."""
        first, last = np.searchsorted(self.positions, [index * seq_len, (index + 1) * seq_len])
        positions = (self.positions[first:last] - index * seq_len) * batch_size + self.lanes[first:last]
        return WordTargets(torch.from_numpy(positions), torch.from_numpy(self.words[first:last]))


def find_targets(
    lanes: list[WordMarks], ahead: int, position: WordPosition, random: np.random.Generator, *, backward: bool
) -> BlockTargets:
    """Return the states of a block of text that predict words, and the words.

    Args:
        lanes: the marks of each lane, in the order of reading. They extend beyond the block, so that the words after
            its end are known; words beyond the end of the marks are not targets.
        ahead: number of words to predict from each state.
        position: which state of a word predicts.
        random: chooses the state of each word, if `position` is "both".
        backward: whether the text is read from its end.
    """
    positions, numbers, words = [], [], []
    for number, marks in enumerate(lanes):
        ends = word_ends(marks, backward=backward)
        own = (marks[ends] & ~np.uint16(BEGINS)).astype(np.int64) - FIRST
        own[own < 0] = -1  # rare words
        # Row k holds the words that follow word k; those beyond the last one are unknown.
        padded = np.concatenate([own, np.full(ahead, -1)])
        following = np.stack([padded[k : k + len(own)] for k in range(1, ahead + 1)], axis=1)
        after = random.integers(2, size=len(ends)) if position == "both" else int(position == "separator")
        # States that would predict nothing are left out.
        useful = (following >= 0).any(axis=1)
        positions.append((ends + after)[useful])
        numbers.append(np.full(int(useful.sum()), number))
        words.append(following[useful])
    order = np.argsort(np.concatenate(positions), kind="stable")
    return BlockTargets(np.concatenate(positions)[order], np.concatenate(numbers)[order], np.concatenate(words)[order])


def word_ends(marks: WordMarks, *, backward: bool) -> NDArray[np.int64]:
    """Return the positions of the last character of each word, in the order of reading.

    Args:
        marks: the marks of the characters, in the order of reading. Shape: (characters,)
        backward: whether the text is read from its end, where the last character read is the word's first.

    Returns:
        Shape: (words,). A word whose end lies beyond the array is not among them.
    """
    begins = (marks & BEGINS) != 0
    if backward:
        return np.flatnonzero(begins)
    inside = marks != 0
    return np.flatnonzero(inside[:-1] & (~inside[1:] | begins[1:]))
