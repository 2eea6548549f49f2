"""Add columns of words, offsets and vectors to a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from charembed.embedding.context import Context
from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.text.words import TextInput

Batch = dict[str, list[Any]]


class Embedder(Protocol):
    """What `Mapper` needs of a `CharEmbedder`, whose module imports this one."""

    def embed(self, texts: Iterable[TextInput], context: Context | None = None) -> list[WordEmbeddings]:
        """Return the words and vectors of each text."""


class Mapper:
    """The function that `CharEmbedder.mapper` returns. It can be pickled, which `datasets` requires."""

    def __init__(self, embedder: Embedder, column: str, context: Context | None) -> None:
        """
        Args:
            embedder: computes the vectors.
            column: name of the column that contains texts or lists of words.
            context: which neighboring texts to read with each text; none if None.
        """
        self._embedder = embedder
        self._column = column
        self._context = context

    def __call__(self, batch: Batch) -> Batch:
        """Return the new columns of a batch.

        Raises:
            CharEmbedError: the column does not exist, or contains a single text because `map` was called without
                `batched=True`.
        """
        if self._column not in batch:
            raise CharEmbedError(f"no column {self._column!r}; the columns are {', '.join(sorted(batch))}")
        if isinstance(batch[self._column], str):
            raise CharEmbedError("the mapper takes batches of texts, got a single text: call map with batched=True")
        embeddings = self._embedder.embed(batch[self._column], self._context)
        return {
            "words": [text.words for text in embeddings],
            "starts": [[start for start, _ in text.spans] for text in embeddings],
            "ends": [[end for _, end in text.spans] for text in embeddings],
            "vectors": [list(text.vectors) for text in embeddings],
        }
