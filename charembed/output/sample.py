"""Draw a sample of a corpus and fit a projection to its vectors."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.reduction import fit_to_words
from charembed.errors import CharEmbedError
from charembed.projection import Projection, check_dim
from charembed.text.corpus import Corpus

logger = logging.getLogger(__name__)

_SAMPLE_SIZE = 4096
"""Maximum number of excerpts in a sample."""
_EXCERPT_CHARACTERS = 1000
"""Maximum length of an excerpt."""


@dataclass
class CorpusSample:
    """Excerpts of a corpus, and its size."""

    characters: int = 0
    """Number of characters of the whole corpus."""
    excerpts: list[str] = field(default_factory=list)
    """Excerpts, drawn with equal probability from everywhere in the corpus."""

    def shuffled(self) -> list[str]:
        """Return the excerpts in random order, always the same."""
        return random.Random(0).sample(self.excerpts, len(self.excerpts))

    @classmethod
    def draw(cls, corpus: Corpus) -> CorpusSample:
        """Read a corpus once and draw a sample. The same corpus always has the same sample.

        Raises:
            CharEmbedError: a source cannot be read.
        """
        sample, generator, seen = cls(), random.Random(0), 0
        for text in corpus.texts():
            sample.characters += len(text.text)
            for start in range(0, len(text.text), _EXCERPT_CHARACTERS):
                # Reservoir sampling: excerpt number n replaces one of the sample with probability size / n.
                seen += 1
                excerpt = text.text[start : start + _EXCERPT_CHARACTERS]
                if seen <= _SAMPLE_SIZE:
                    sample.excerpts.append(excerpt)
                elif (replaced := generator.randrange(seen)) < _SAMPLE_SIZE:
                    sample.excerpts[replaced] = excerpt
        return sample


def fit_projection(embedder: CharEmbedder, dim: int, sample: CorpusSample | None) -> Projection:
    """Fit a projection to the vectors of a sample.

    Args:
        embedder: computes the vectors.
        dim: number of dimensions to keep.
        sample: the sample; None if the text can be read only once.

    Raises:
        CharEmbedError: there is no sample, `dim` is out of range, or the sample contains too few words.
    """
    if sample is None:
        raise CharEmbedError("dim needs to read the text twice, which is impossible with a pipe: write it to a file")
    check_dim(dim, embedder.embedding_dim)  # before the time is spent on embedding
    logger.info("fitting a projection to %s dimensions on a sample of the text", dim)
    return fit_to_words(embedder.iter_embed(sample.shuffled()), embedder.embedding_dim, dim)
