"""Find the words of some texts that are used most like a given word in its sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine import Vectors
from charembed.errors import CharEmbedError
from charembed.text.words import Span, SpannedText

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbor:
    """A word similar to the query, at the occurrence where it is most similar."""

    word: str
    """The word, spelled as in its text."""
    similarity: float
    """Cosine of the two vectors after subtracting the mean vector of the texts, from -1 to 1."""
    text: str
    """The text in which the word occurs."""
    span: Span
    """Offsets of the word in its text: first character and one past the last."""


def find_neighbors(
    embedder: CharEmbedder, sentence: str, word: str, texts: Iterable[str], *, count: int = 10, max_words: int = 20_000
) -> list[Neighbor]:
    """Find the words of some texts whose vectors are nearest to the vector of a word in its sentence.

    The word itself is left out in any case, and every other word is returned once, at its nearest occurrence.

    Args:
        embedder: computes the vectors.
        sentence: the context of the word.
        word: a word of `sentence`; if it occurs several times, the first occurrence counts.
        texts: texts to search.
        count: maximum number of words to return.
        max_words: number of words of the texts to search, from the first; their vectors are all in memory.

    Returns:
        The neighbors, the most similar first.

    Raises:
        CharEmbedError: the word does not occur in the sentence, the texts contain no words, or `count` is not positive.
    """
    if count < 1:
        raise CharEmbedError(f"count must be positive, got {count}")
    query = query_vector(embedder, sentence, word)
    searched = list(_first_words(texts, max_words))
    if not any(len(text.spans) for text in searched):
        raise CharEmbedError("there are no words in the texts to search")
    embeddings = embedder.embed([(text.text, text.spans.tolist()) for text in searched])
    # Contextual vectors share a large common component: only after subtracting it do cosines differ much.
    vectors = np.concatenate([text.vectors for text in embeddings])
    mean = vectors.mean(axis=0)
    vectors -= mean
    similarities = _cosines(query - mean, vectors)
    # Every occurrence, in the order of the vectors.
    occurrences = [
        (text.text, other, span)
        for text, embedded in zip(searched, embeddings, strict=True)
        for other, span in zip(embedded.words, embedded.spans, strict=True)
    ]
    # From the most similar occurrence on, keep the first one of each other word.
    nearest: dict[str, Neighbor] = {}
    for k in np.argsort(-similarities):
        text, other, span = occurrences[k]
        if other.casefold() != word.casefold() and other not in nearest:
            nearest[other] = Neighbor(other, float(similarities[k]), text, span)
            if len(nearest) == count:
                break
    return list(nearest.values())


def query_vector(embedder: CharEmbedder, sentence: str, word: str) -> Vectors:
    """Return the vector of a word's first occurrence in a sentence. Shape: (embedding_dim,)

    Raises:
        CharEmbedError: the word does not occur in the sentence.
    """
    embeddings = embedder.embed([sentence])[0]
    if word not in embeddings.words:
        raise CharEmbedError(f"{word!r} is not one of the words of the sentence: {' · '.join(embeddings.words)}")
    vector: Vectors = embeddings.vectors[embeddings.words.index(word)]
    return vector


def _first_words(texts: Iterable[str], count: int) -> Iterator[SpannedText]:
    """Yield the texts that contain the first `count` words; the last text without its further words."""
    remaining = max(0, count)
    for text in texts:
        spanned = SpannedText.of(text)
        yield SpannedText(spanned.text, spanned.spans[:remaining])
        remaining -= len(spanned.spans)
        if remaining <= 0:
            logger.info(
                "only the first %s words of the texts are compared; an index (`charembed neighbors --index`) has all",
                f"{max(0, count):,}",
            )
            return


def _cosines(query: Vectors, vectors: Vectors) -> Vectors:
    """Return the cosine of each vector and the query; 0 for vectors of length 0.

    Shape: (embedding_dim,), (words, embedding_dim) to (words,)
    """
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    cosines: Vectors = np.divide(vectors @ query, norms, out=np.zeros_like(norms), where=norms > 0)
    return cosines
