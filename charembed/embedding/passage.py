"""Determine what each language model reads of a text, and after which characters its states belong to the words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import Direction, Readout
from charembed.text.words import SpannedText

END_MARKER = " "
"""Character that both models read after a text: Flair ends every text with a space."""


@dataclass(frozen=True)
class Reading:
    """The characters that one model reads for a passage, and the positions among them whose states are needed.

    The characters are three segments: the prefix, the text (from its end if `reverse` is true) and the end marker.
    """

    prefix: str
    """Delimiter and context, in the order in which they are read."""
    text: str
    """The text in its own order. It is not copied, however long it is."""
    reverse: bool
    """Whether the text is read from its end."""
    positions: NDArray[np.int64]
    """Positions of characters in the reading, from 0; in any order, repetitions allowed. Shape: (words,)"""

    @property
    def length(self) -> int:
        """Number of characters that must be read: up to the last position."""
        return int(self.positions.max(initial=-1)) + 1

    def read(self, start: int, stop: int) -> str:
        """Return the characters from `start` up to `stop`, in the order in which they are read."""
        text_length = len(self.text)
        prefix_first, prefix_last = _overlap(start, stop, 0, len(self.prefix))
        text_first, text_last = _overlap(start, stop, len(self.prefix), text_length)
        end_first, end_last = _overlap(start, stop, len(self.prefix) + text_length, len(END_MARKER))
        if self.reverse:
            # Offset k from the end of the text is offset text_length - k from its start.
            text = self.text[text_length - text_last : text_length - text_first][::-1]
        else:
            text = self.text[text_first:text_last]
        return self.prefix[prefix_first:prefix_last] + text + END_MARKER[end_first:end_last]


def _overlap(start: int, stop: int, segment_start: int, segment_length: int) -> tuple[int, int]:
    """Return which part of a segment lies between `start` and `stop`, as offsets into the segment."""
    first = min(max(start - segment_start, 0), segment_length)
    last = min(max(stop - segment_start, 0), segment_length)
    return first, last


@dataclass(frozen=True)
class Passage(SpannedText):
    """A text whose words are to be embedded, with the context that is read before and after it."""

    before: str = ""
    """Context before the text: the forward model reads it first."""
    after: str = ""
    """Context after the text: the backward model reads it first, from its end."""

    @property
    def characters(self) -> int:
        """Maximum number of characters that one model reads, without delimiter and end marker."""
        return len(self.text) + max(len(self.before), len(self.after))

    def reading(self, direction: Direction, delimiter: str, readout: Readout) -> Reading:
        """Return what one model reads, with the positions whose states are the words' vectors.

        Each model reads the delimiter m, its context, the text (reversed for the backward model) and the end marker.
        The state at position k is the one after character k. With a context of n₀ characters and a text of n, a word at
        text[a:b] has the position |m| + n₀ + b - 1 in the forward model and |m| + n₀ + n - 1 - a in the backward model
        if states are read on its own outermost characters, and the next position if they are read on the characters
        just outside it. An empty word has the states on either side of its offset.
        """
        reverse = direction == "backward"
        prefix = delimiter + (self.after[::-1] if reverse else self.before)
        characters_read = len(self.text) - self.spans[:, 0] if reverse else self.spans[:, 1]
        positions = len(prefix) + characters_read - (1 if readout == "word" else 0)
        return Reading(prefix, self.text, reverse, positions)
