"""Receives an encoded corpus; hands on the text of each epoch, shuffled: all of it, or the next part of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from charembed.corpus import CorpusConfig
from charembed.encoded import ID_TYPE, SEGMENT, EncodedCorpus, corpora, pieces_of, up_to
from charembed.stream import EpochText


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
            self._stream = islice(pieces_of(corpora(self._config)[0]), self.documents, None)
        pieces = list(up_to(SEGMENT, self._stream))
        if sum(map(len, pieces)) < self._at_least:
            self.documents = 0
            return self._whole()
        self._following = self.documents + len(pieces)
        ends = np.cumsum([len(piece) for piece in pieces])
        ids = self._encoded.vocab.encode("".join(pieces)).astype(ID_TYPE)
        return EpochText(ids, np.stack([ends - np.diff(ends, prepend=0), ends], axis=1), self._seed, self.number)
