"""Choose and fit the projections that reduce word vectors to fewer dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from charembed.embedding.engine import Vectors
from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.util.checks import check_integer

_MAX_VECTOR_BYTES = 128_000_000
"""Size of the vectors to which a projection is fitted."""
_WORDS_PER_PRODUCT = 240
"""Number of words that are projected at a time: whole products of `Projection`, which have 48 rows."""


def stored_projection(pretrained: Pretrained, parts: Sequence[str], dim: int) -> Projection:
    """Return the projection of a model to a number of dimensions.

    Args:
        pretrained: the model.
        parts: parts of which the vectors to project consist, in order.
        dim: number of dimensions.

    Raises:
        CharEmbedError: the model has no projection, or one that is too narrow or for other vectors.
    """
    check_integer("dim", dim)
    projection = pretrained.projection
    if projection is None:
        problem = "this model has no projection"
    elif not is_for(projection, pretrained, parts):
        problem = (
            f"the projection of this model is for the readout {projection.readout} and the parts"
            f" {', '.join(projection.parts)}, not for {pretrained.readout} and {', '.join(parts)}"
        )
    elif dim > projection.dim:
        problem = f"the projection of this model has {projection.dim}"
    else:
        return projection.first(dim)
    raise CharEmbedError(
        f"vectors cannot be reduced to {dim} dimensions, because {problem}: fit one with"
        f" CharEmbedder.fit_projection(texts, {dim}) or charembed add-projection"
    )


def is_for(projection: Projection, pretrained: Pretrained, parts: Sequence[str]) -> bool:
    """Return whether a projection was fitted to vectors with the readout of a model and the given parts."""
    return projection.parts == tuple(parts) and projection.readout == pretrained.readout


def project_texts(projection: Projection, vectors: Sequence[Vectors]) -> list[Vectors]:
    """Return the projected vectors of the words of texts.

    Args:
        projection: the projection.
        vectors: the vectors of each text. Shape: (words, embedding_dim) each

    Returns:
        The vectors of each text, in arrays of their own. Shape: (words, dim) each
    """
    # Many texts at a time: a product of four rows takes three times as long per row as one of a hundred, because every
    # product reads all components from memory.
    projected: list[Vectors] = []
    ends = np.cumsum([len(text) for text in vectors])
    while len(projected) < len(vectors):
        first = len(projected)
        start = ends[first] - len(vectors[first])
        last = int(np.searchsorted(ends, start + _WORDS_PER_PRODUCT, side="right"))
        if last <= first + 1:  # a text that has as many words by itself
            projected.append(projection(vectors[first]))
            continue
        together = projection(np.concatenate(vectors[first:last]))
        # Copies, so that who keeps the vectors of one text does not keep those of all others.
        projected += [text.copy() for text in np.split(together, ends[first : last - 1] - start)]
    return projected


def fit_to_words(embeddings: Iterable[WordEmbeddings], width: int, dim: int) -> Projection:
    """Fit a projection to the vectors of the first words: 25,000 if they have 1,280 dimensions.

    Args:
        embeddings: words with their vectors. No more are taken than needed.
        width: number of dimensions of the vectors.
        dim: number of dimensions to keep.

    Raises:
        CharEmbedError: `dim` is not below the width of the vectors, or there are not more than `dim` words.
    """
    max_words = words_to_fit(width, dim)
    vectors, words = [np.empty((0, width), np.float32)], 0
    for text in embeddings:
        vectors.append(text.vectors)
        words += len(text)
        if words >= max_words:
            break
    return Projection.fit(np.concatenate(vectors), dim)


def words_to_fit(width: int, dim: int) -> int:
    """Return the number of words to which a projection of vectors of some width to `dim` dimensions is fitted."""
    return max(_MAX_VECTOR_BYTES // (4 * width), 2 * dim)
