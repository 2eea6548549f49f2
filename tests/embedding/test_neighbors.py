"""Finding words used alike, against a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest

from charembed import CharEmbedder, CharEmbedError
from charembed.embedding.neighbors import find_neighbors

TEXTS = ["The quick brown fox jumps.", "A lazy dog sleeps.", "The Quick one.", "The lazy fox."]


def test_neighbors_are_the_nearest_by_cosine(embedder: CharEmbedder) -> None:
    found = find_neighbors(embedder, "The quick dog", "quick", TEXTS, count=3)
    everything = embedder.embed(TEXTS)
    vectors = np.concatenate([e.vectors for e in everything])
    words = [word for e in everything for word in e.words]
    mean = vectors.mean(axis=0)
    query = embedder.embed(["The quick dog"])[0].vectors[1] - mean
    similarity = [v @ query / np.linalg.norm(v) / np.linalg.norm(query) for v in vectors - mean]
    ranked = [words[k] for k in np.argsort(similarity)[::-1] if words[k].lower() != "quick"]
    assert [n.word for n in found] == list(dict.fromkeys(ranked))[:3]
    assert found[0].similarity == pytest.approx(
        max(s for s, w in zip(similarity, words, strict=True) if w == ranked[0])
    )
    assert all(n.text[slice(*n.span)] == n.word for n in found)


def test_no_more_words_than_asked_for_are_looked_at(embedder: CharEmbedder) -> None:
    found = find_neighbors(embedder, "The quick dog", "quick", TEXTS, max_words=6)
    assert {n.word for n in found} == {"The", "brown", "fox", "jumps", "."}


def test_a_word_that_is_not_in_the_sentence(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="'cat' is not one of the words of the sentence: The · dog"):
        find_neighbors(embedder, "The dog", "cat", TEXTS)


def test_no_words_asked_for(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="count must be positive, got 0"):
        find_neighbors(embedder, "The dog", "dog", TEXTS, count=0)


def test_texts_without_words(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="no words in the texts"):
        find_neighbors(embedder, "The dog", "dog", [" "])
