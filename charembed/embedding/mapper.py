"""Receives batches of a Hugging Face data set; hands on columns of words, offsets and vectors."""

from __future__ import annotations

from typing import Any

from charembed.embedding.context import Context
from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError

Batch = dict[str, list[Any]]


class Mapper:
    """What `CharEmbedder.mapper` gives. It can be pickled, as `datasets` does with it."""

    def __init__(self, embedder: CharEmbedder, column: str, context: Context | None) -> None:
        self._embedder, self._column, self._context = embedder, column, context

    def __call__(self, batch: Batch) -> Batch:
        """The new columns.

        Raises:
            CharEmbedError: there is no such column, or it holds a single text instead of those of a batch.
        """
        if self._column not in batch:
            raise CharEmbedError(f"no column {self._column!r}, there are: {', '.join(sorted(batch))}")
        if isinstance(batch[self._column], str):
            raise CharEmbedError("texts come in batches: call map with batched=True")
        found = self._embedder.embed(batch[self._column], self._context)
        return {
            "words": [each.words for each in found],
            "starts": [[start for start, _ in each.spans] for each in found],
            "ends": [[end for _, end in each.spans] for each in found],
            "vectors": [list(each.vectors) for each in found],
        }
