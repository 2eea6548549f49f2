"""Neighbors of a word, compared with a brute-force search."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest

from charembed import CharEmbedder, CharEmbedError
from charembed.embedding.neighbors import find_neighbors

TEXTS = ["The quick brown fox jumps.", "A lazy dog sleeps.", "The Quick one.", "The lazy fox."]


def test_neighbors_are_the_nearest_by_cosine(embedder: CharEmbedder) -> None:
    neighbors = find_neighbors(embedder, "The quick dog", "quick", TEXTS, count=3)
    embeddings = embedder.embed(TEXTS)
    vectors = np.concatenate([text.vectors for text in embeddings])
    words = [word for text in embeddings for word in text.words]
    mean = vectors.mean(axis=0)
    query = embedder.embed(["The quick dog"])[0].vectors[1] - mean
    similarity = [v @ query / np.linalg.norm(v) / np.linalg.norm(query) for v in vectors - mean]
    ranked = [words[k] for k in np.argsort(similarity)[::-1] if words[k].lower() != "quick"]
    assert [neighbor.word for neighbor in neighbors] == list(dict.fromkeys(ranked))[:3]
    assert neighbors[0].similarity == pytest.approx(
        max(s for s, w in zip(similarity, words, strict=True) if w == ranked[0])
    )
    assert all(neighbor.text[slice(*neighbor.span)] == neighbor.word for neighbor in neighbors)


@pytest.mark.parametrize(("max_words", "words"), [(6, "The brown fox jumps ."), (8, "The brown fox jumps . A lazy")])
def test_no_more_than_max_words_are_searched(
    embedder: CharEmbedder, max_words: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    read = []

    def generate() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    neighbors = find_neighbors(embedder, "The quick dog", "quick", generate(), max_words=max_words)
    assert {neighbor.word for neighbor in neighbors} == set(words.split())
    assert read == TEXTS[: 1 if max_words == 6 else 2]
    assert f"only the first {max_words} words of the texts are compared" in caplog.text


def test_a_word_that_is_not_in_the_sentence_is_refused(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="'cat' is not one of the words of the sentence: The · dog"):
        find_neighbors(embedder, "The dog", "cat", TEXTS)


def test_count_must_be_positive(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="count must be positive, got 0"):
        find_neighbors(embedder, "The dog", "dog", TEXTS, count=0)


def test_texts_without_words_are_refused(embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match="no words in the texts"):
        find_neighbors(embedder, "The dog", "dog", [" "])
