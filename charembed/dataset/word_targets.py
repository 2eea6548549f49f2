"""Find, in windows of text, the words that end there and the words that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.dataset.word_marks import BEGINS, FIRST, WordMarks

_CHARACTERS_PER_WORD = 32
"""Characters per word that are read beyond a block, to find the words that come next."""

WordPosition = Literal["word", "separator", "both"]
"""Which state predicts the words that follow: the one at a word's last character in the order of reading, the one at
the character after it, or one of the two at random for each word."""


@dataclass(frozen=True)
class WordPrediction:
    """Which words are predicted, and from which states."""

    ahead: int
    """Number of words to predict from each state."""
    position: WordPosition
    """Which state of a word predicts."""
    seed: int = 0
    """Seed of the choice between the states of a word."""

    @property
    def margin(self) -> int:
        """Number of characters after a block to read as well, to know the words that come next."""
        return _CHARACTERS_PER_WORD * (self.ahead + 2)


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
    """Positions in the block, from 0. Shape: (states,)"""
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
    lanes: Sequence[WordMarks],
    origins: Sequence[int],
    first: int,
    length: int,
    prediction: WordPrediction,
    *,
    backward: bool,
) -> BlockTargets:
    """Return the states of a block of text that predict words, and the words.

    A state predicts words of which it has read nothing: in `the cat, and`, the state at the comma that follows `cat`
    predicts `and`. Where words follow each other without spaces, as in Chinese, the state at the character after a word
    predicts the word after the next one.

    Args:
        lanes: the marks of each lane, in the order of reading. They extend beyond the block (`WordPrediction.margin`),
            so that the words after its end are known; words beyond the end of the marks are not targets.
        origins: position of the first mark of each lane in the whole text, in the order of reading.
        first: position of the first mark of each lane in the block: -1 if the marks begin with the character before it,
            where a word may end that the first state of the block follows.
        length: characters of the block in each lane.
        prediction: which words to predict, and from which states.
        backward: whether the text is read from its end.
    """
    ahead, position = prediction.ahead, prediction.position
    positions, numbers, words = [], [], []
    for number, (marks, origin) in enumerate(zip(lanes, origins, strict=True)):
        ends = word_ends(marks, backward=backward)
        own = (marks[ends] & ~np.uint16(BEGINS)).astype(np.int64) - FIRST
        own[own < 0] = -1  # rare words
        after = _random_bits(ends + origin, prediction.seed) if position == "both" else int(position == "separator")
        # Row k holds the words that follow word k, without the next one if the state has read some of it already. Those
        # beyond the last word are unknown.
        is_adjacent = np.append(marks, 0)[ends + 1] != 0
        next_word = np.arange(1, len(ends) + 1) + (is_adjacent & (after == 1))
        padded = np.concatenate([own, np.full(ahead + 1, -1)])
        following = padded[next_word[:, None] + np.arange(ahead)]
        states = ends + first + after
        # States outside the block, and those that would predict nothing, are left out.
        useful = (states >= 0) & (states < length) & (following >= 0).any(axis=1)
        positions.append(states[useful])
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


def _random_bits(positions: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random bit for each position, the same one each time (SplitMix64, Steele et al. 2014).

    It depends on nothing else, so a word has the same bit in every block and in any number of processes.
    """
    with np.errstate(over="ignore"):
        bits = np.uint64(seed) + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = (bits ^ (bits >> np.uint64(31))) & np.uint64(1)
    return bits.astype(np.int64)
