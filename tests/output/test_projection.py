"""Principal components, compared with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charembed import CharEmbedError
from charembed.output.projection import Projection


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


def test_it_is_restored_from_its_file(vectors: np.ndarray, tmp_path: Path) -> None:
    projection = Projection.fit(vectors, 3)
    projection.save(tmp_path / "_projection.safetensors")
    for name in (tmp_path, tmp_path / "_projection.safetensors"):
        again = Projection.load(name)
        assert np.array_equal(again(vectors), projection(vectors))
        assert again.explained == projection.explained


@pytest.mark.parametrize(("words", "dim", "message"), [(200, 12, "dim must be from 1 to 11"), (200, 0, "dim must be")])
def test_dimensions_out_of_range_are_refused(vectors: np.ndarray, words: int, dim: int, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        Projection.fit(vectors[:words], dim)


def test_too_few_words_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(CharEmbedError, match="5 words are too few to fit 5 dimensions: give more text"):
        Projection.fit(vectors[:5], 5)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CharEmbedError, match="is not a projection written by charembed embed --dim"):
        Projection.load(path)


def test_a_folder_without_a_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="contains no projection: its vectors were written without --dim"):
        Projection.load(tmp_path)


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
    ],
)
def test_hostile_files_are_refused(changed: dict, message: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {
        "mean": np.zeros(4, np.float32),
        "components": np.eye(2, 4, dtype=np.float32),
        "explained": np.array([0.5]),
    }
    save_file(tensors, tmp_path / "fine")
    assert Projection.load(tmp_path / "fine").dim == 2
    save_file(tensors | changed, tmp_path / "file")
    with pytest.raises(CharEmbedError, match=message):
        Projection.load(tmp_path / "file")
