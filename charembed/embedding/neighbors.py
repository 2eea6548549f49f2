"""Receives a word in its sentence and texts to search; hands on the words used most like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.text.words import Span, TextInput


@dataclass(frozen=True)
class Neighbor:
    """A word like the one asked for, where it is most like it."""

    word: str
    similarity: float
    """Cosine of the two vectors, the mean vector of the texts taken off both; from -1 to 1."""
    text: str
    """The text it stands in."""
    span: Span
    """Where it stands there, in characters."""


def find_neighbors(
    embedder: CharEmbedder, sentence: str, word: str, texts: Iterable[str], *, count: int = 10, max_words: int = 20_000
) -> list[Neighbor]:
    """The words of some texts whose vectors are nearest to those of a word in its sentence.

    Other forms of the word itself (by case) are left out, and of each further word only the nearest place is named.

    Args:
        embedder: what makes the vectors.
        sentence: the context of the word.
        word: a word of `sentence`, the first one of this spelling.
        texts: where to look.
        count: how many words.
        max_words: how many words of the texts to look at, from the first; their vectors are held in memory.

    Raises:
        CharEmbedError: the word does not stand in the sentence, the texts hold no words, or no word is asked for.
    """
    if count < 1:
        raise CharEmbedError(f"count must be positive, got {count}")
    asked = embedder.embed([sentence])[0]
    if word not in asked.words:
        raise CharEmbedError(f"{word!r} is not one of the words of the sentence: {' · '.join(asked.words)}")
    read: list[tuple[str, WordEmbeddings]] = []
    words = 0
    kept: list[str] = []

    def until_enough() -> Iterable[TextInput]:
        for text in texts:
            if words >= max_words:
                return
            kept.append(text)
            yield text

    for found in embedder.iter_embed(until_enough()):
        read.append((kept[len(read)], found))
        words += len(found)
    if not words:
        raise CharEmbedError("there are no words in the texts to search")
    vectors = np.concatenate([found.vectors for _, found in read])[:max_words]
    places = [(text, w, span) for text, found in read for w, span in zip(found.words, found.spans, strict=True)]
    mean = vectors.mean(axis=0)
    query = asked.vectors[asked.words.index(word)] - mean
    vectors -= mean
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    similarities = np.divide(vectors @ query, norms, out=np.zeros_like(norms), where=norms > 0)
    nearest: dict[str, Neighbor] = {}
    for k in np.argsort(-similarities):
        text, other, span = places[k]
        if other.casefold() != word.casefold() and other not in nearest:
            nearest[other] = Neighbor(other, float(similarities[k]), text, span)
            if len(nearest) == count:
                break
    return list(nearest.values())
