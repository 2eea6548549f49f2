"""Principal components, compared with scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save

from charembed import CharEmbedError
from charembed.projection import Projection


@pytest.fixture
def vectors() -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.normal(size=(200, 12)) @ random.normal(size=(12, 12)) + 5).astype(np.float32)


def test_components_equal_those_of_scikit_learn(vectors: np.ndarray) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    expected = decomposition.PCA(5, svd_solver="full").fit(vectors)
    projection = Projection.fit(vectors, 5)
    assert projection.dim == 5
    signs = np.sign((projection.components * expected.components_).sum(axis=1))[:, None]
    np.testing.assert_allclose(projection.components, signs * expected.components_, atol=1e-4)
    np.testing.assert_allclose(projection(vectors), expected.transform(vectors) * signs.T, atol=1e-3)
    assert projection.explained == pytest.approx(expected.explained_variance_ratio_.sum(), abs=1e-5)
    assert projection(vectors).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_it_is_restored_from_its_bytes(vectors: np.ndarray, dtype) -> None:
    projection = dataclasses.replace(Projection.fit(vectors, 3), parts=("forward", "words"), readout="separator")
    if dtype == "float16":
        assert not np.array_equal(projection.rounded().components, projection.components)
        projection = projection.rounded()
    again = Projection.from_bytes(projection.to_bytes(dtype), "the file")
    assert np.array_equal(again(vectors), projection(vectors))
    assert (again.explained, again.parts, again.readout) == (projection.explained, ("forward", "words"), "separator")


def test_float16_changes_vectors_little(vectors: np.ndarray) -> None:
    projection = Projection.fit(vectors, 5)
    scale = np.abs(projection(vectors)).max()
    np.testing.assert_allclose(projection.rounded()(vectors), projection(vectors), atol=2e-3 * scale)


def test_components_are_nested(vectors: np.ndarray) -> None:
    wide, narrow = Projection.fit(vectors, 7), Projection.fit(vectors, 3)
    np.testing.assert_allclose(wide.first(3)(vectors), narrow(vectors), atol=1e-5)
    assert wide.first(3).explained == pytest.approx(narrow.explained)
    assert wide.first(3).dim == 3
    assert wide.first(7).explained == wide.explained


@pytest.mark.parametrize(("words", "dim", "message"), [(200, 12, "dim must be from 1 to 11"), (200, 0, "dim must be")])
def test_dimensions_out_of_range_are_refused(vectors: np.ndarray, words: int, dim: int, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        Projection.fit(vectors[:words], dim)


def test_too_few_words_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(CharEmbedError, match="5 words are too few to fit 5 dimensions: give more text"):
        Projection.fit(vectors[:5], 5)


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(CharEmbedError, match=r"^the file is not a projection: "):
        Projection.from_bytes(content, "the file")


def test_version_0_1_0_stored_one_share_of_variance_and_neither_parts_nor_readout(vectors: np.ndarray) -> None:
    projection = Projection.fit(vectors, 3)
    tensors = {"mean": projection.mean, "components": projection.components, "explained": np.array([0.75])}
    again = Projection.from_bytes(save(tensors), "the file")
    assert np.array_equal(again(vectors), projection(vectors))
    assert again.explained == pytest.approx(0.75)
    assert (again.parts, again.readout) == ((), "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"components": np.zeros((0, 4), np.float32)},
            r"of shape \(4,\), its components are float32 of shape \(0, 4\)",
        ),
        ({"components": np.ones((2, 4), np.float64)}, "is not a projection.*components are float64"),
        ({"components": np.full((2, 4), np.nan, np.float32)}, "values that are not finite"),
        ({"mean": np.zeros(5, np.float32)}, r"is not a projection.*shape \(5,\)"),
        ({"explained": np.array([np.inf])}, "values that are not finite"),
        ({"explained": np.ones(3)}, "is not a projection"),
        ({"explained": np.ones((1, 1))}, "is not a projection"),
        ({"explained": np.array([1])}, "is not a projection"),
    ],
)
def test_hostile_files_are_refused(changed: dict, message: str) -> None:
    tensors = {
        "mean": np.zeros(4, np.float32),
        "components": np.eye(2, 4, dtype=np.float32),
        "explained": np.array([0.5]),
    }
    assert Projection.from_bytes(save(tensors), "the file").dim == 2
    with pytest.raises(CharEmbedError, match=message):
        Projection.from_bytes(save(tensors | changed), "the file")


@pytest.mark.parametrize("description", ["", "3", "[]", "{}", '{"parts": "ab", "readout": "word"}', "[" * 100_000])
def test_hostile_descriptions_are_refused(description: str) -> None:
    tensors = {"mean": np.zeros(4, np.float32), "components": np.eye(2, 4, dtype=np.float32), "explained": np.ones(2)}
    with pytest.raises(CharEmbedError, match="its header does not describe the vectors"):
        Projection.from_bytes(save(tensors, {"vectors": description}), "the file")


def test_equal_projections_have_equal_bytes(vectors: np.ndarray) -> None:
    projection = dataclasses.replace(Projection.fit(vectors, 3), parts=("forward", "backward"), readout="word")
    assert len({projection.to_bytes() for _ in range(10)}) == 1


def test_a_missing_tensor_is_reported() -> None:
    with pytest.raises(CharEmbedError, match="the file is not a projection: 'components'"):
        Projection.from_bytes(save({"mean": np.zeros(4, np.float32)}), "the file")
