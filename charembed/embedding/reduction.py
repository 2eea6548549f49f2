"""Fit projections to fewer dimensions to the vectors of words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.projection import Projection

_MAX_VECTOR_BYTES = 128_000_000
"""Size of the vectors to which a projection is fitted."""


def fit_to_words(embeddings: Iterable[WordEmbeddings], width: int, dim: int) -> Projection:
    """Fit a projection to the vectors of the first words: 25,000 if they have 1,280 dimensions.

    Args:
        embeddings: words with their vectors. No more are taken than needed.
        width: number of dimensions of the vectors.
        dim: number of dimensions to keep.

    Raises:
        CharEmbedError: `dim` is not below the width of the vectors, or there are not more than `dim` words.
    """
    max_words = max(_MAX_VECTOR_BYTES // (4 * width), 2 * dim)
    vectors, words = [np.empty((0, width), np.float32)], 0
    for text in embeddings:
        vectors.append(text.vectors)
        words += len(text)
        if words >= max_words:
            break
    return Projection.fit(np.concatenate(vectors), dim)
