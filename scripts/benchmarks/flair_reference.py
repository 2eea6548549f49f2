"""Flair's own embeddings with the weights of a charembed model, as reference for speed and for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from charembed import CharEmbedder
from charembed.pretrained.model_folder import Pretrained


def flair_embeddings(pretrained: Pretrained) -> list[Any]:
    """Return Flair's own embeddings with the same weights, one per direction."""
    from flair.embeddings import FlairEmbeddings

    from charembed.integrations.flair import flair_language_model

    # Flair takes embeddings of the same name for the same embeddings.
    directions = pretrained.model.directions
    return [FlairEmbeddings(flair_language_model(pretrained, name), name=name) for name in directions]


def embed_with_flair(embeddings: Sequence[Any], sentences: Sequence[Any], mini_batch: int) -> None:
    """Embed Flair's sentences in batches, without the vectors that they may have already."""
    for start in range(0, len(sentences), mini_batch):
        batch = list(sentences[start : start + mini_batch])
        for sentence in batch:
            sentence.clear_embeddings()
        for each in embeddings:
            each.embed(batch)


def check_against_flair(pretrained: Pretrained, embeddings: Sequence[Any], sentences: list[list[str]]) -> float:
    """Check that our vectors equal Flair's, and return the largest difference.

    Args:
        pretrained: the model.
        embeddings: Flair's embeddings of the same weights.
        sentences: words of each sentence.

    Raises:
        AssertionError: a number differs by 1e-5 or more.
    """
    from flair.data import Sentence

    flair_sentences = [Sentence(words) for words in sentences]
    embed_with_flair(embeddings, flair_sentences, mini_batch=32)
    largest = 0.0
    for ours, sentence in zip(CharEmbedder(pretrained).embed(sentences), flair_sentences, strict=True):
        # Flair keeps the directions apart; charembed concatenates them, forward first.
        halves = ([token.get_embedding([each.name]).cpu().numpy() for token in sentence] for each in embeddings)
        vectors = np.concatenate([np.stack(half) for half in halves], axis=1)
        largest = max(largest, float(np.abs(vectors - ours.vectors).max()))
    assert largest < 1e-5, f"vectors differ from Flair's by {largest}"
    return largest
