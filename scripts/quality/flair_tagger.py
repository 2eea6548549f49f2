"""Flair's tagger on vectors that are there already, for `evaluate_quality.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import flair
from flair.data import Sentence
from flair.embeddings.base import TokenEmbeddings, register_embeddings

from charembed.tagging.labelled_text import Splits, Task
from scripts.quality.embedders import EmbeddedTask
from scripts.train_tagger import flair_corpus, train_tagger


@register_embeddings
class StoredVectors(TokenEmbeddings):
    """The vectors that a sentence carries with it."""

    name = "stored"

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    @property
    def embedding_length(self) -> int:
        return self._width

    @property
    def embedding_type(self) -> str:
        return "word-level"

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        for sentence in sentences:
            for token, vector in zip(sentence, sentence.get_metadata("vectors"), strict=True):
                token.set_embedding(self.name, vector)
        return sentences

    def to_params(self) -> dict[str, Any]:
        return {"width": self._width}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> StoredVectors:
        return cls(**params)


def flair_score(embedded: EmbeddedTask, task: Task, seed: int, *, epochs: int, hidden_size: int) -> float:
    """Score of Flair's `SequenceTagger` on the vectors, in per cent, by `train_tagger`."""
    flair.set_seed(seed)
    corpus = flair_corpus(Splits(*([one.labelled for one in split] for split in embedded)), task)
    for theirs, ours in zip((corpus.train, corpus.dev, corpus.test), embedded, strict=True):
        for number, sentence in enumerate(ours):
            theirs[number].add_metadata("vectors", sentence.vectors)  # type: ignore[index]
    embeddings = StoredVectors(embedded.train[0].vectors.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        return train_tagger(
            corpus, embeddings, task, Path(folder), hidden_size=hidden_size, max_epochs=epochs, storage="none"
        )
