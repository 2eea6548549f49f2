"""Cut encoded text into windows for truncated back-propagation through time, epoch after epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.dataset.encoding import DEFAULT_LIMITS, ID_TYPE, CorpusLimits, open_corpora
from charembed.dataset.frequent_words import FrequentWords
from charembed.dataset.split import Bounds
from charembed.dataset.word_marks import WordMarks
from charembed.dataset.word_targets import BlockTargets, WordPrediction, WordTargets, find_targets
from charembed.errors import CharEmbedError
from charembed.text.corpus import CorpusConfig, document_texts, take_characters
from charembed.text.vocab import Ids

_WINDOWS_PER_READ = 64
"""Windows that a lane reads from the file at once."""


class EpochText:
    """The documents of one epoch in a random order, as an endless stream: after its end it begins again.

    Position 0 is a random one: text of a single document has no order to shuffle.
    """

    def __init__(self, ids: Ids, segments: Bounds, seed: int, epoch: int, marks: WordMarks | None = None) -> None:
        """
        Args:
            ids: the text, possibly in a memory-mapped file. Shape: (characters,)
            segments: bounds of the documents in `ids`. Shape: (documents, 2)
            seed: seed of the order.
            epoch: number of the epoch, which gives each epoch another order.
            marks: the frequent words of the text, if words are to be predicted. Shape: (characters,)
        """
        self.seeds = [seed, epoch]
        """Seeds of everything random in this epoch."""
        random = np.random.default_rng(self.seeds)
        order = random.permutation(len(segments))
        self._ids = ids
        self._marks = marks
        lengths = segments[order, 1] - segments[order, 0]
        # Positions in the shuffled stream at which the documents end, and what to add to a position in a document to
        # get the offset of the same character in `ids`.
        self._ends = np.cumsum(lengths)
        self._shifts = segments[order, 1] - self._ends
        self.length = int(self._ends[-1])
        """Number of characters."""
        self._rotation = int(random.integers(self.length))

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids from one position up to another, which may be past the end.

        Shape: (stop - start,)
        """
        return self._read(self._ids, start, stop)

    def read_marks(self, start: int, stop: int) -> WordMarks:
        """Return the marks of words of the same characters as `read`. Shape: (stop - start,)"""
        assert self._marks is not None
        return self._read(self._marks, start, stop)

    def _read(self, array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        result = np.empty(stop - start, dtype=array.dtype)
        filled = 0
        position = (start + self._rotation) % self.length
        document = int(np.searchsorted(self._ends, position, side="right"))
        # Copy document by document; after the last one comes the first.
        while filled < len(result):
            end = int(self._ends[document])
            count = min(end - position, len(result) - filled)
            offset = position + int(self._shifts[document])
            result[filled : filled + count] = array[offset : offset + count]
            filled += count
            document = (document + 1) % len(self._ends)
            position = end % self.length
        return result


@dataclass(frozen=True)
class Window:
    """The ids of one pass through the model."""

    inputs: Tensor
    """Characters to read. Shape: (seq_len, batch)"""
    targets: Tensor
    """Characters to predict: the one after each input. Shape: (seq_len, batch)"""
    words: WordTargets | None
    """Words to predict; None if only characters are."""


class WindowStream:
    """The windows of an epoch. The text is cut into lanes of equal length, which are read side by side.

    Each lane of a window continues the same lane of the window before it, so hidden states can be carried over.
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
        words: WordPrediction | None = None,
    ) -> None:
        """
        Args:
            text: the text of the epoch.
            batch_size: number of lanes.
            seq_len: characters per window and lane.
            backward: whether to read the text from its end to its beginning.
            rank: number of this process among those that share the text; each has lanes of its own.
            world_size: number of those processes.
            words: which words to predict; None for characters alone.

        Raises:
            CharEmbedError: the text is too short for one window per lane.
        """
        lanes = batch_size * world_size
        if text.length < lanes * seq_len:
            processes = f" × {world_size} processes" if world_size > 1 else ""
            raise CharEmbedError(
                f"the corpus is too small for the batch: it has {text.length:,} characters to train on, batch_size"
                f" {batch_size} × seq_len {seq_len}{processes} needs {lanes * seq_len:,}: lower one of these, or"
                " provide more text"
            )
        lane_length = text.length // lanes
        self._text = text
        self._backward = backward
        self._seq_len = seq_len
        # Neighbouring lanes belong to the same process; the characters after the last lane are left out.
        self._starts = [(rank * batch_size + lane) * lane_length for lane in range(batch_size)]
        self.windows = lane_length // seq_len
        """Number of windows in the epoch."""
        # Which state of a word predicts differs from epoch to epoch, and between the directions.
        seeds = np.random.SeedSequence([*text.seeds, backward]).generate_state(1, np.uint64)
        self._words = None if words is None else replace(words, seed=int(seeds[0]))
        self._buffered: tuple[int, NDArray[np.int64], BlockTargets | None] | None = None

    def window(self, number: int) -> Window:
        """Return a window of the epoch, counted from 0."""
        block, index = divmod(number, _WINDOWS_PER_READ)
        if self._buffered is None or self._buffered[0] != block:
            self._buffered = block, self._read(block), self._read_targets(block)
        _, block_ids, targets = self._buffered
        # One character more than the window: the targets are the inputs shifted by one.
        ids = torch.from_numpy(block_ids[index * self._seq_len : (index + 1) * self._seq_len + 1])
        words = None if targets is None else targets.window(index, self._seq_len, len(self._starts))
        return Window(inputs=ids[:-1], targets=ids[1:], words=words)

    def _read(self, block: int) -> NDArray[np.int64]:
        """Return the ids of consecutive windows and the last target after them. Shape: (characters, batch)"""
        first, last = self._bounds(block)
        lanes = [self._read_lane(self._text.read, start + first, start + last + 1) for start in self._starts]
        return np.stack(lanes, axis=1).astype(np.int64)

    def _read_targets(self, block: int) -> BlockTargets | None:
        """Return the words to predict in consecutive windows."""
        if self._words is None:
            return None
        first, last = self._bounds(block)
        # The first state of a block may follow a word, except at the beginning of the lane: no word was read before it.
        before = 1 if block else 0
        origins = [start + first - before for start in self._starts]
        stops = [start + last + self._words.margin for start in self._starts]
        lanes = [self._read_lane(self._text.read_marks, *bounds) for bounds in zip(origins, stops, strict=True)]
        return find_targets(lanes, origins, -before, last - first, self._words, backward=self._backward)

    def _bounds(self, block: int) -> tuple[int, int]:
        """Return the first position of a block in its lane, and the one after its last."""
        first = block * _WINDOWS_PER_READ * self._seq_len
        return first, min(first + _WINDOWS_PER_READ * self._seq_len, self.windows * self._seq_len)

    def _read_lane(self, read: Callable[[int, int], NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
        if self._backward:
            # Positions are those of the reversed text.
            return read(self._text.length - stop, self._text.length - start)[::-1]
        return read(start, stop)


class Epochs:
    """The text of each epoch.

    With `streaming`, an epoch is a segment of the stream. The first segment, without its held-out text, is the encoded
    corpus itself. When the stream ends, it is read from the beginning again.
    """

    def __init__(
        self,
        encoded: EncodedCorpus,
        config: CorpusConfig,
        seed: int,
        *,
        min_characters: int = 1,
        frequent: FrequentWords | None = None,
        limits: CorpusLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        Args:
            encoded: the corpus, or the first segment of the stream.
            config: where the text comes from.
            seed: seed of the order of documents.
            min_characters: shortest segment to train on; what is left of the stream is dropped if it is shorter.
            frequent: the frequent words of the text, if words are to be predicted.
            limits: how long a segment is; the same as those of `encode_corpus`.
        """
        self._encoded = encoded
        self._frequent = frequent
        self._config = config
        self._seed = seed
        self._min_characters = min_characters
        self._limits = limits
        self.number = 0
        """Number of the current epoch, from 0."""
        self.documents = 0
        """Number of documents of the stream read before this epoch; 0 if its text is the encoded corpus."""
        self._next_documents = 0
        self._stream: Iterator[str] | None = None
        self.text = self._encoded_text()
        """Text of the current epoch."""

    def advance(self) -> None:
        """Move to the next epoch.

        Raises:
            CharEmbedError: the stream cannot be read.
        """
        self._move_to(self.number + 1, self._next_documents)

    def seek(self, number: int, documents: int) -> None:
        """Move to an epoch, given the values that `number` and `documents` had there.

        Raises:
            CharEmbedError: the stream cannot be read.
        """
        self._stream = None
        self._move_to(number, documents)

    def _move_to(self, number: int, documents: int) -> None:
        self.number, self.documents = number, documents
        self.text = self._next_segment() if documents else self._encoded_text()

    def _encoded_text(self) -> EpochText:
        self._next_documents = self._encoded.documents if self._config.streaming else 0
        self._stream = None
        marks = None if self._frequent is None else self._frequent.marks
        return EpochText(self._encoded.ids, self._encoded.segments, self._seed, self.number, marks)

    def _next_segment(self) -> EpochText:
        # After a resume the stream has to be read from its beginning again.
        if self._stream is None:
            self._stream = islice(document_texts(open_corpora(self._config)[0]), self.documents, None)
        texts = list(take_characters(self._limits.segment, self._stream))
        # The stream has ended: begin again.
        if sum(map(len, texts)) < self._min_characters:
            self.documents = 0
            return self._encoded_text()
        self._next_documents = self.documents + len(texts)
        # Nothing is held out from later segments: the validation text comes from the first.
        ends = np.cumsum([len(text) for text in texts])
        bounds = np.stack([ends - np.diff(ends, prepend=0), ends], axis=1)
        ids = self._encoded.vocab.encode("".join(texts)).astype(ID_TYPE)
        marks = None if self._frequent is None else self._frequent.marker.mark(ids, bounds)
        return EpochText(ids, bounds, self._seed, self.number, marks)
