"""Add columns of words, offsets and vectors to a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from charembed.embedding.context import Context
from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.text.words import TextInput, as_list

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

    def __call__(self, batch: Any) -> Batch:
        """Return the new columns of a batch.

        Raises:
            CharEmbedError: the column does not exist, or contains a single text because `map` was called without
                `batched=True`.
        """
        # In the format "arrow", a batch is a table.
        columns = batch.column_names if hasattr(batch, "column_names") else list(batch)
        if self._column not in columns:
            raise CharEmbedError(f"no column {self._column!r}; the columns are {', '.join(sorted(columns))}")
        texts = batch[self._column]
        if isinstance(texts, str):
            raise CharEmbedError("the mapper takes batches of texts, got a single text: call map with batched=True")
        embeddings = self._embedder.embed(as_list(texts), self._context)
        # Arrays have a type even if they are empty, from which `datasets` knows the type of the column.
        return {
            "words": [np.array(text.words, dtype=object if text.words else "U1") for text in embeddings],
            "starts": [np.array([start for start, _ in text.spans], np.int64) for text in embeddings],
            "ends": [np.array([end for _, end in text.spans], np.int64) for text in embeddings],
            "vectors": [text.vectors for text in embeddings],
        }
