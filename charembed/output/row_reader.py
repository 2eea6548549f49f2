"""Embed a corpus and turn its words into rows, from the position where an earlier run stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.embedding.context import Context
from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_embeddings import EmbeddedPart
from charembed.errors import CharEmbedError
from charembed.output.config import DType
from charembed.output.manifest import START_OVER, Position
from charembed.output.shards import Rows
from charembed.projection import Projection
from charembed.text.corpus import SourceText
from charembed.text.words import WORD_RULES, TextInput, find_words
from charembed.util.files import MANIFEST


@dataclass(frozen=True)
class TextRows:
    """Rows of consecutive words of one text."""

    rows: Rows | None
    """The rows; None for a document start, which counts as a text without words."""
    ends_text: bool
    """Whether the text has no further rows."""


@dataclass(frozen=True)
class VectorFormat:
    """How vectors are changed before they are written."""

    projection: Projection | None
    """Reduces their dimensions; None keeps all."""
    dtype: DType
    """Their data type."""

    def convert(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return vectors as they are written. Shape: (words, embedding_dim) to (words, dim)"""
        projected = vectors if self.projection is None else self.projection(vectors)
        return projected.astype(self.dtype, copy=False)


class Texts(Protocol):
    """What `RowReader` reads: a corpus, or a part of one."""

    def texts(self) -> Iterator[SourceText]:
        """Yield the texts, again at each call."""


class RowReader:
    """Reads a corpus once and yields the rows after a position. Shows a progress bar on a terminal."""

    def __init__(
        self,
        embedder: CharEmbedder,
        corpus: Texts,
        context: Context | None,
        vector_format: VectorFormat,
        word_rules: int = WORD_RULES,
    ) -> None:
        """
        Args:
            embedder: computes the vectors.
            corpus: the texts.
            context: neighboring texts to read with each text; None for none.
            vector_format: how the vectors are written.
            word_rules: version of the rules by which words are found.
        """
        self._embedder = embedder
        self._corpus = corpus
        self._context = context
        self._vector_format = vector_format
        self._word_rules = word_rules
        self._pending: deque[SourceText | None] = deque()
        """Texts that were given to the embedder and whose vectors are not finished; None for a document start."""
        self._texts_read = 0
        """Number of texts and document starts that were read."""

    def iter_rows(self, start: Position, total_characters: int | None) -> Iterator[TextRows]:
        """Yield the rows after a position.

        Args:
            start: where an earlier run stopped.
            total_characters: size of the corpus, for the progress bar; None if it is not known.

        Raises:
            CharEmbedError: the position is beyond the end of the corpus, or a source cannot be read.
        """
        with tqdm(
            total=total_characters,
            unit=" characters",
            unit_scale=True,
            disable=None,  # no bar if the output is not a terminal
            dynamic_ncols=True,
            smoothing=0,
        ) as progress_bar:
            texts = self._iter_texts(start.texts, progress_bar)
            words_to_skip = start.words
            characters_done = 0  # of the current text
            for part in self._embedder.iter_parts(texts, self._context, skip=start.texts):
                text = self._pending[0]
                if part.ends_text:
                    self._pending.popleft()
                if text is None:
                    yield TextRows(None, ends_text=True)
                    continue
                # Advance the progress bar to the end of this part.
                reached = len(text.text) if part.ends_text else part.embeddings.spans[-1][1]
                progress_bar.update(reached - characters_done)
                characters_done = 0 if part.ends_text else reached
                # Leave out the words that are written already; they may extend over several parts.
                yield TextRows(self._to_rows(text, part)[words_to_skip:], part.ends_text)
                words_to_skip = max(0, words_to_skip - len(part.embeddings))
        if words_to_skip or self._texts_read < start.texts:
            raise CharEmbedError(f"{MANIFEST} is damaged: it counts more texts than there are; {START_OVER}")

    def _iter_texts(self, finished: int, progress_bar: tqdm[Any]) -> Iterator[TextInput]:
        """Yield the texts for the embedder, with a blank text at each document start, and remember the unfinished."""
        for item in self._iter_items():
            if self._texts_read >= finished:
                self._pending.append(item)
            elif item is not None:  # serves as context only
                progress_bar.update(len(item.text))
            self._texts_read += 1
            yield "" if item is None else self._with_words(item.text)

    def _with_words(self, text: str) -> TextInput:
        """Return a text whose words the embedder finds, or a text with the words of earlier rules."""
        if self._word_rules == WORD_RULES:
            return text
        return text, [(start, end) for start, end in find_words(text, self._word_rules).tolist()]

    def _iter_items(self) -> Iterator[SourceText | None]:
        for text in self._corpus.texts():
            if text.begins_document:
                yield None
            yield text

    def _to_rows(self, text: SourceText, part: EmbeddedPart) -> Rows:
        embeddings = part.embeddings
        return Rows(
            [text.source] * len(embeddings),
            [text.number] * len(embeddings),
            embeddings.words,
            np.array(embeddings.spans, dtype=np.int64).reshape(-1, 2),
            self._vector_format.convert(embeddings.vectors),
        )
