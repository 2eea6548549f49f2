"""Vectors of n-grams that are fitted to those of words."""

from __future__ import annotations

import numpy as np

from charembed.static_vectors import with_ngrams
from charembed.static_vectors.bag_of_subwords import fit_subwords


def flat(subwords: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the subwords of all words, and how many each has."""
    return np.concatenate(subwords), np.array([len(ids) for ids in subwords])


def test_subwords_are_those_of_ridge_regression() -> None:
    """Against the closed solution with dense matrices."""
    random = np.random.default_rng(3)
    subwords = [random.integers(0, 25, random.integers(1, 6)) for _ in range(60)]
    vectors = (random.normal(size=(60, 4)) + 2.0).astype(np.float32)
    fitted = fit_subwords(vectors, *flat(subwords), 30, ridge=0.7, iterations=100)
    dense = np.zeros((60, 30))
    for row, ids in enumerate(subwords):
        np.add.at(dense[row], ids, 1 / len(ids))
    squares = sum(1 / len(ids) for ids in subwords)
    mean = vectors.mean(0)
    expected = mean + np.linalg.solve(dense.T @ dense + 0.7 * squares / 30 * np.eye(30), dense.T @ (vectors - mean))
    np.testing.assert_allclose(fitted, expected, atol=1e-4)
    np.testing.assert_allclose(fitted[25:], np.repeat(mean[None], 5, 0), atol=1e-5, err_msg="subwords of no word")


def test_subwords_predict_words_that_were_left_out() -> None:
    """Words are stem and ending; the vector of each is the sum of theirs."""
    random = np.random.default_rng(3)
    stems, endings = random.normal(size=(40, 6)), random.normal(size=(8, 6))
    pairs = [(stem, ending) for stem in range(40) for ending in range(8)]
    vectors = np.array([stems[stem] + endings[ending] for stem, ending in pairs], dtype=np.float32)
    subwords = [np.array([stem, 40 + ending]) for stem, ending in pairs]
    kept = random.random(len(pairs)) < 0.8
    known = [ids for ids, is_kept in zip(subwords, kept, strict=True) if is_kept]
    fitted = fit_subwords(vectors[kept], *flat(known), 48, ridge=0.01)
    for ids, vector in zip(np.array(subwords)[~kept], vectors[~kept], strict=True):
        np.testing.assert_allclose(fitted[ids].mean(0), vector, atol=0.3)


def test_other_words_get_vectors_of_words_that_look_alike() -> None:
    random = np.random.default_rng(4)
    colours, animals = random.normal(size=(2, 5)).astype(np.float32)
    words = [
        f"{letters}{ending}" for ending in ("ish", "oid") for letters in ("red", "blu", "gre", "cow", "dog", "bat")
    ]
    vectors = np.stack([colours if word.endswith("ish") else animals for word in words])
    static = with_ngrams(words, vectors, buckets=2000, min_n=2, max_n=4, rows=8)
    assert static.words == words[:8]
    np.testing.assert_allclose(static.lookup(words[:8]), vectors[:8], atol=0.02)
    for word, vector, other in (
        ("pinkish", colours, animals),
        ("horseoid", animals, colours),
        ("batoid", animals, colours),
    ):
        found = static.lookup([word])[0]
        assert np.linalg.norm(found - vector) < np.linalg.norm(found - other), word


def test_no_buckets() -> None:
    vectors = np.ones((2, 3), np.float32)
    static = with_ngrams(["a", "b"], vectors, buckets=0, min_n=2, max_n=4, rows=2)
    assert static.buckets == 0
    assert not static.lookup(["c"]).any()
