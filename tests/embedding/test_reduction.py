"""Vectors of fewer dimensions: fitted, stored in the model folder, and asked for."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    AWKWARD_TEXTS,
    EXCERPT,
    assert_same_vectors,
    small_model,
    small_static_vectors,
    with_projection,
)

from charembed import CharEmbedder, CharEmbedError
from charembed.embedding.limits import EmbeddingLimits
from charembed.embedding.reduction import project_texts
from charembed.projection import Projection

LINES = EXCERPT.read_text(encoding="utf-8").splitlines()[:40]


def all_vectors(embedder: CharEmbedder, texts: list[str]) -> np.ndarray:
    return np.concatenate([text.vectors for text in embedder.embed(texts)])


def test_the_fitted_projection_is_that_of_scikit_learn(embedder: CharEmbedder) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = all_vectors(embedder, LINES)
    pca = decomposition.PCA(6, svd_solver="full").fit(vectors)
    reduced = embedder.fit_projection(iter(LINES), 6)
    assert reduced.embedding_dim == 6
    assert reduced.projection.explained == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-4)
    assert reduced.projection.parts == ("forward", "backward")
    actual, expected = all_vectors(reduced, LINES), pca.transform(vectors)
    signs = np.sign((actual * expected).sum(axis=0))  # arbitrary
    np.testing.assert_allclose(actual, expected * signs, atol=3e-3)  # components are stored as float16
    assert embedder.embedding_dim == 24  # the embedder itself is unchanged


def test_a_saved_model_gives_the_first_dimensions(embedder: CharEmbedder, tmp_path: Path) -> None:
    reduced = embedder.fit_projection(LINES, 6)
    reduced.save_pretrained(tmp_path / "model")
    expected = all_vectors(reduced, LINES)
    for dim in (1, 4, 6):
        again = CharEmbedder.from_pretrained(tmp_path / "model", dim=dim)
        assert again.embedding_dim == dim
        assert again.options["dim"] == dim
        np.testing.assert_allclose(all_vectors(again, LINES), expected[:, :dim], atol=1e-6)
    assert CharEmbedder.from_pretrained(tmp_path / "model").embedding_dim == 24  # only if asked for


@pytest.mark.parametrize("readout", ["word", "separator"])
@pytest.mark.parametrize("cache_mb", [0, 1])
def test_every_text_is_projected(readout, cache_mb: int) -> None:
    pretrained = with_projection(small_model(readout=readout))
    limits = EmbeddingLimits(window_characters=300, part_characters=100)  # so that long texts are read in parts
    whole = CharEmbedder(pretrained, limits=limits)
    reduced = CharEmbedder(pretrained, dim=5, cache_mb=cache_mb, limits=limits)
    texts = [*(text for text in AWKWARD_TEXTS if len(text) < 1000), "The lazy dog. " * 80]
    texts += texts
    for _ in range(2):  # the second time from the cache, if there is one
        for text, expected in zip(reduced.embed(texts), whole.embed(texts), strict=True):
            assert (text.words, text.spans) == (expected.words, expected.spans)
            projected = pretrained.projection.first(5)(expected.vectors)
            assert_same_vectors(text.vectors, projected, text.words, tolerance=1e-5)


@pytest.mark.parametrize(
    "sizes", [[], [0], [0, 0, 3], [100, 156, 0, 1], [255, 2, 0], [256, 1], [300, 0, 5, 600], [1] * 600]
)
def test_texts_are_projected_together(sizes: list[int]) -> None:
    generator = np.random.default_rng(3)
    projection = Projection.fit(generator.normal(size=(99, 8)).astype(np.float32), 3)
    vectors = [generator.normal(size=(size, 8)).astype(np.float32) for size in sizes]
    products: list[int] = []

    class Counted(Projection):
        def __call__(self, vectors):
            products.append(len(vectors))
            return super().__call__(vectors)

    projected = project_texts(Counted(projection.mean, projection.components, projection.variance_shares), vectors)
    assert [text.shape for text in projected] == [(size, 3) for size in sizes]
    for text, whole in zip(projected, vectors, strict=True):
        np.testing.assert_allclose(text, (whole - projection.mean) @ projection.components.T, atol=1e-5)
        assert text.base is None or text.base.size <= max(text.size, 1)  # nobody keeps the vectors of other texts
    assert len(products) <= 2 * sum(sizes) / 256 + 1
    assert all(words <= 256 or words in sizes for words in products)


def test_an_embedder_with_fewer_dimensions_fits_to_all(embedder: CharEmbedder) -> None:
    expected = embedder.fit_projection(LINES, 6)
    again = embedder.fit_projection(LINES, 3).fit_projection(LINES, 6)
    assert np.array_equal(again.projection.components, expected.projection.components)
    assert again.pretrained.digest() == expected.pretrained.digest()


def test_a_copy_has_as_many_dimensions(embedder: CharEmbedder) -> None:
    reduced = embedder.fit_projection(LINES, 6)
    copy = pickle.loads(pickle.dumps(reduced))
    assert np.array_equal(all_vectors(copy, LINES), all_vectors(reduced, LINES))


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        (8, r"to 8 dimensions, because the projection of this model has 7: fit one with CharEmbedder.fit_projection"),
        (0, "dim must be a whole number of at least 1, got 0"),
        (2.0, "dim must be a whole number of at least 1, got 2.0"),
        (True, "dim must be a whole number of at least 1, got True"),
    ],
)
def test_dimensions_that_the_model_does_not_have(dim, message: str, pretrained) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedder(with_projection(pretrained), dim=dim)


def test_a_model_without_a_projection_says_how_to_fit_one(pretrained) -> None:
    message = (
        r"vectors cannot be reduced to 4 dimensions, because this model has no projection: fit one with"
        r" CharEmbedder.fit_projection\(texts, 4\) or charembed add-projection"
    )
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedder(pretrained, dim=4)


def test_a_projection_for_another_readout_is_refused(pretrained) -> None:
    CharEmbedder(with_projection(pretrained), dim=4)
    with pytest.raises(CharEmbedError, match="is for the readout word and the parts forward, backward, not for separ"):
        CharEmbedder(with_projection(pretrained), dim=4, readout="separator")


@pytest.mark.parametrize("parts", [("words",), ("backward",), ("forward", "words"), None])
def test_each_choice_of_parts_has_a_projection_of_its_own(parts, pretrained, tmp_path: Path) -> None:
    pretrained = dataclasses.replace(pretrained, static=small_static_vectors())
    embedder = CharEmbedder(pretrained, parts=parts)
    reduced = embedder.fit_projection(LINES, 3)
    assert reduced.parts == embedder.parts == reduced.projection.parts
    projected = reduced.projection(all_vectors(embedder, LINES))
    np.testing.assert_allclose(all_vectors(reduced, LINES), projected, atol=1e-6)
    reduced.save_pretrained(tmp_path / "model")
    again = CharEmbedder.from_pretrained(tmp_path / "model", parts=parts, dim=3)
    assert np.array_equal(all_vectors(again, LINES), all_vectors(reduced, LINES))
    with pytest.raises(CharEmbedError, match=r"is for the readout word and the parts .*, not for word and forward, ba"):
        CharEmbedder(reduced.pretrained, parts=("forward", "backward"), dim=3)


@pytest.mark.parametrize(
    ("texts", "dim", "message"),
    [
        ([], 3, "0 words are too few to fit 3 dimensions"),
        (["two words"], 3, "2 words are too few to fit 3 dimensions"),
        (LINES, 24, "dim must be from 1 to 23 for vectors of 24 dimensions, got 24"),
        (LINES, 0, "dim must be a whole number of at least 1, got 0"),
    ],
)
def test_a_projection_that_cannot_be_fitted(texts: list[str], dim: int, message: str, embedder: CharEmbedder) -> None:
    with pytest.raises(CharEmbedError, match=message):
        embedder.fit_projection(texts, dim)


def test_no_more_text_is_read_than_needed(embedder: CharEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charembed.embedding.reduction._MAX_VECTOR_BYTES", 24 * 4 * 50)
    limits = EmbeddingLimits(window_texts=10)
    read = []
    texts = (read.append(line) or "five words in a line" for line in range(100))
    CharEmbedder(embedder.pretrained, limits=limits).fit_projection(texts, 3)
    assert len(read) == 10
