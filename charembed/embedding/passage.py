"""Receives a text with its words and what stands around it; hands on what each model reads, and where its states are
the words'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import Direction, Readout
from charembed.text.words import SpannedText

# What both models read after a text. The reference implementation ends every text with a space.
END_MARKER = " "


@dataclass(frozen=True)
class Reading:
    """What one model reads of a passage, and after which characters its state is wanted."""

    first: str
    """What is read first."""
    text: str
    """What is read next; not copied, however long."""
    reverse: bool
    """Whether it is read from its end."""
    positions: NDArray[np.int64]
    """Characters of what is read, from 0, in any order, repeated or not. Shape: (words,)"""

    @property
    def length(self) -> int:
        """Characters that must be read: up to the last position."""
        return int(self.positions.max(initial=-1)) + 1

    def read(self, start: int, stop: int) -> str:
        """Some of the characters, in the order in which they are read."""
        begin, end = (min(max(at - len(self.first), 0), len(self.text)) for at in (start, stop))
        size = len(self.text)
        text = self.text[size - end : size - begin][::-1] if self.reverse else self.text[begin:end]
        over = len(self.first) + size
        return self.first[start:stop] + text + END_MARKER[max(start - over, 0) : max(stop - over, 0)]


@dataclass(frozen=True)
class Passage(SpannedText):
    """A text whose words are to be embedded, and what is read with it as context."""

    before: str = ""
    """What the forward model reads first."""
    after: str = ""
    """What the backward model reads first, from its end."""

    @property
    def characters(self) -> int:
        """That a model reads at most."""
        return len(self.text) + max(len(self.before), len(self.after))

    def reading(self, direction: Direction, delimiter: str, readout: Readout) -> Reading:
        """What one model reads, and where its states are the words'.

        Both read the delimiter m, their context, the text (the backward one reversed) and the end marker. State k is
        the one after character k of that. With a context of n₀ characters and a text of n, a word at text[a:b] has |m|
        + n₀ + b - 1 forward and |m| + n₀ + n - 1 - a backward, on its own outermost characters; on the characters just
        outside it, one further on. An empty word takes the states on either side of its place.
        """
        reverse = direction == "backward"
        first = delimiter + (self.after[::-1] if reverse else self.before)
        read_up_to = len(self.text) - self.spans[:, 0] if reverse else self.spans[:, 1]
        positions = len(first) + read_up_to - (1 if readout == "word" else 0)
        return Reading(first, self.text, reverse, positions)
