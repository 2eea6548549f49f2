"""Receives encoded documents; hands them on in a random order, cut into windows for back-propagation through time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.dataset.encoded_corpus import ID_TYPE, SEGMENT, EncodedCorpus, corpora
from charembed.errors import CharEmbedError
from charembed.text.corpus import CorpusConfig, document_texts, take_characters
from charembed.text.vocab import Ids

_READ_AHEAD = 64
"""Windows that a lane reads at once."""


class EpochText:
    """The documents of one epoch in a random order, one after the other, as a stream without ends.

    Position 0 is a random place in it: text of a single document has nothing to shuffle.
    """

    def __init__(self, ids: Ids, segments: NDArray[np.int64], seed: int, epoch: int) -> None:
        """
        Args:
            ids: the text, perhaps in a memory-mapped file. Shape: (characters,)
            segments: first character of each document in it, and one past its last. Shape: (documents, 2)
            seed: of the order.
            epoch: each has another.
        """
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(segments))
        self._ids = ids
        lengths = segments[order, 1] - segments[order, 0]
        self._ends = np.cumsum(lengths)
        """Of the documents, in the shuffled stream."""
        self._shifts = segments[order, 1] - self._ends
        """From a place in the shuffled stream to that of the same character in `ids`."""
        self.length = int(self._ends[-1])
        self._rotation = int(random.integers(self.length))

    def read(self, start: int, stop: int) -> Ids:
        """Ids from one place to another, beyond the end those from the beginning again.

        Shape: (stop - start,)
        """
        found = np.empty(stop - start, dtype=self._ids.dtype)
        filled = 0
        place = (start + self._rotation) % self.length
        document = int(np.searchsorted(self._ends, place, side="right"))
        while filled < len(found):
            end = int(self._ends[document])
            count = min(end - place, len(found) - filled)
            at = place + int(self._shifts[document])
            found[filled : filled + count] = self._ids[at : at + count]
            filled += count
            document = (document + 1) % len(self._ends)
            place = end % self.length
        return found


@dataclass(frozen=True)
class Window:
    """Ids of one pass through the model: `targets` are `inputs` one character later."""

    inputs: Tensor
    """Shape: (seq_len, batch)"""
    targets: Tensor
    """Shape: (seq_len, batch)"""


class WindowStream:
    """Cuts an epoch's text into lanes read side by side, `seq_len` characters a window.

    Each lane's window goes on where the lane's last window ended, so hidden states can be carried over.
    """

    def __init__(
        self,
        text: EpochText,
        batch_size: int,
        seq_len: int,
        *,
        backward: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            text: of the epoch.
            batch_size: lanes.
            seq_len: characters a window.
            backward: read the text from its end.
            rank: of the processes that share the text; each has lanes of its own.
            world_size: number of those processes.

        Raises:
            CharEmbedError: the text is too short for one window in each lane.
        """
        lanes = batch_size * world_size
        if text.length < lanes * seq_len:
            processes = f" × {world_size} processes" if world_size > 1 else ""
            raise CharEmbedError(
                f"the corpus is too small for the batch: {text.length:,} characters to train on, batch_size"
                f" {batch_size} × seq_len {seq_len}{processes} needs {lanes * seq_len:,}: lower one of"
                " these, or give more text"
            )
        lane_length = text.length // lanes
        self._text = text
        self._backward = backward
        self._seq_len = seq_len
        self._starts = [(rank * batch_size + lane) * lane_length for lane in range(batch_size)]
        self.windows = lane_length // seq_len
        """Number of windows in the epoch."""
        self._ahead: tuple[int, NDArray[np.int64]] | None = None

    def window(self, number: int) -> Window:
        """A window of the epoch, counted from 0."""
        block, k = divmod(number, _READ_AHEAD)
        if self._ahead is None or self._ahead[0] != block:
            self._ahead = block, self._read(block)
        ids = torch.from_numpy(self._ahead[1][k * self._seq_len : (k + 1) * self._seq_len + 1])
        return Window(inputs=ids[:-1], targets=ids[1:])

    def _read(self, block: int) -> NDArray[np.int64]:
        """Windows that follow one another, and one character more. Shape: (characters, batch)"""
        first = block * _READ_AHEAD * self._seq_len
        last = min(first + _READ_AHEAD * self._seq_len, self.windows * self._seq_len) + 1
        lanes = [self._lane(start + first, start + last) for start in self._starts]
        return np.stack(lanes, axis=1).astype(np.int64)

    def _lane(self, start: int, stop: int) -> Ids:
        if self._backward:
            return self._text.read(self._text.length - stop, self._text.length - start)[::-1]
        return self._text.read(start, stop)


class Epochs:
    """The text of one epoch after the other.

    With `streaming`, an epoch is a segment of the stream. The first one, minus what is held out, is the encoded corpus
    itself; where the stream ends, it comes again.
    """

    def __init__(self, encoded: EncodedCorpus, config: CorpusConfig, seed: int, at_least: int = 1) -> None:
        """
        Args:
            encoded: the corpus, or the first segment of it.
            config: where it comes from.
            seed: of the order of documents.
            at_least: characters that a segment must have; a shorter end of the stream is left out.
        """
        self._encoded = encoded
        self._config = config
        self._seed = seed
        self._at_least = at_least
        self.number = 0
        """Of the epoch, from 0."""
        self.documents = 0
        """Of the stream, read before this epoch; 0 for the encoded corpus."""
        self._following = 0
        self._stream: Iterator[str] | None = None
        self.text = self._whole()
        """Of the epoch."""

    def advance(self) -> None:
        """Go on to the next epoch.

        Raises:
            CharEmbedError: the stream cannot be read.
        """
        self._go_to(self.number + 1, self._following)

    def seek(self, number: int, documents: int) -> None:
        """Go to an epoch, given what `number` and `documents` were there.

        Raises:
            CharEmbedError: the stream cannot be read.
        """
        self._stream = None
        self._go_to(number, documents)

    def _go_to(self, number: int, documents: int) -> None:
        self.number, self.documents = number, documents
        self.text = self._segment() if documents else self._whole()

    def _whole(self) -> EpochText:
        self._following = self._encoded.documents if self._config.streaming else 0
        self._stream = None
        return EpochText(self._encoded.ids, self._encoded.segments, self._seed, self.number)

    def _segment(self) -> EpochText:
        if self._stream is None:
            self._stream = islice(document_texts(corpora(self._config)[0]), self.documents, None)
        pieces = list(take_characters(SEGMENT, self._stream))
        if sum(map(len, pieces)) < self._at_least:
            self.documents = 0
            return self._whole()
        self._following = self.documents + len(pieces)
        ends = np.cumsum([len(piece) for piece in pieces])
        ids = self._encoded.vocab.encode("".join(pieces)).astype(ID_TYPE)
        return EpochText(ids, np.stack([ends - np.diff(ends, prepend=0), ends], axis=1), self._seed, self.number)
