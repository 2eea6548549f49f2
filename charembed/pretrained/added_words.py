"""Add static vectors to a model that has been trained without them."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.word_scale import match_states
from charembed.static_vectors import StaticVectors

logger = logging.getLogger(__name__)

_SAMPLE_WORDS = 3500
"""Number of words at which the variance of states and static vectors is measured: about 20,000 characters."""


def add_words(pretrained: Pretrained, static: StaticVectors, source: str | None = None) -> Pretrained:
    """Return a model with static vectors instead of those that it has, if any.

    They are scaled so that they vary as much as the states of the language models. A projection is dropped if it is for
    vectors that contain the former static vectors.

    Args:
        pretrained: the model, with which the result shares its weights.
        static: the static vectors.
        source: name of their file, for the provenance.
    """
    scaled = match_states(static, pretrained.model, pretrained.vocab, _sample_text(static))
    summary = {"source": source} | static.sizes()
    projection = pretrained.projection
    if projection is not None and "words" in projection.parts:
        logger.warning("the model loses its projection, which is for its former static vectors")
        projection = None
    provenance = pretrained.provenance | {"static_vectors": {key: value for key, value in summary.items() if value}}
    return dataclasses.replace(pretrained, static=scaled, projection=projection, provenance=provenance)


def _sample_text(static: StaticVectors) -> str:
    """Return known words with about the frequencies that they have in a text, by Zipf's law.

    The first words of most files are the most frequent ones. For real text, the scale of the vectors came out 2 to 5 %
    larger (English Wikipedia, word2vec).
    """
    if not len(static):
        return ""
    ranks = np.arange(1, len(static) + 1)
    chosen = np.random.default_rng(0).choice(len(static), _SAMPLE_WORDS, p=(1 / ranks) / (1 / ranks).sum())
    words = static.words
    return " ".join(words[k] for k in chosen)
