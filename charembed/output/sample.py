"""Receives a corpus; hands on how large it is, a sample of it, and the projection fitted to that."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.output.projection import Projection, check_dim
from charembed.text.corpus import Corpus

logger = logging.getLogger(__name__)

_PIECES, _CHARACTERS, _BYTES = 4096, 1000, 128_000_000
"""Of the sample: pieces of text, characters of each, and bytes of the vectors that are looked at."""


@dataclass
class Survey:
    """What one look at all texts gives."""

    characters: int = 0
    sample: list[str] = field(default_factory=list)
    """Pieces drawn from anywhere in the texts with the same probability, by a fixed seed."""

    @classmethod
    def of(cls, corpus: Corpus) -> Survey:
        """Read all texts once.

        Raises:
            CharEmbedError: one of them cannot be read.
        """
        survey, drawn, pieces = cls(), random.Random(0), 0
        for text in corpus.texts():
            survey.characters += len(text.text)
            for start in range(0, len(text.text), _CHARACTERS):
                pieces += 1
                place = len(survey.sample) if pieces <= _PIECES else drawn.randrange(pieces)
                if place < _PIECES:
                    survey.sample[place : place + 1] = [text.text[start : start + _CHARACTERS]]
        return survey


def fitted(embedder: CharEmbedder, dim: int, survey: Survey | None) -> Projection:
    """A projection fitted to the vectors of a sample.

    Args:
        embedder: what makes the vectors.
        dim: dimensions to keep.
        survey: of the text; none could be made of a pipe.

    Raises:
        CharEmbedError: no survey, a dimension out of range, or too few words.
    """
    if survey is None:
        raise CharEmbedError("dim needs to read the text twice, which a pipe does not allow: write it to a file")
    check_dim(dim, embedder.embedding_dim)  # before the sample is embedded
    logger.info("fitting %s dimensions to a sample of the text", dim)
    drawn = random.Random(0).sample(survey.sample, len(survey.sample))
    enough = max(_BYTES // (4 * embedder.embedding_dim), 2 * dim)
    vectors, words = [], 0
    for found in embedder.iter_embed(drawn):
        vectors.append(found.vectors)
        words += len(found)
        if words >= enough:
            break
    return Projection.fit(np.concatenate(vectors), dim)
