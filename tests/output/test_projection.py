"""Principal components, against scikit-learn."""

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


def test_components_are_scikit_learn_s(vectors: np.ndarray) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(5, svd_solver="full").fit(vectors)
    ours = Projection.fit(vectors, 5)
    assert ours.dim == 5
    signs = np.sign((ours.components * theirs.components_).sum(axis=1))[:, None]
    np.testing.assert_allclose(ours.components, signs * theirs.components_, atol=1e-4)
    np.testing.assert_allclose(ours(vectors), theirs.transform(vectors) * signs.T, atol=1e-3)
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-5)
    assert ours(vectors).dtype == np.float32


def test_it_comes_back_from_its_file(vectors: np.ndarray, tmp_path: Path) -> None:
    projection = Projection.fit(vectors, 3)
    projection.save(tmp_path / "_projection.safetensors")
    for name in (tmp_path, tmp_path / "_projection.safetensors"):
        again = Projection.load(name)
        assert np.array_equal(again(vectors), projection(vectors))
        assert again.explained == projection.explained


@pytest.mark.parametrize(("words", "dim", "message"), [(200, 12, "dim must be from 1 to 11"), (200, 0, "dim must be")])
def test_dimensions_out_of_range(vectors: np.ndarray, words: int, dim: int, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        Projection.fit(vectors[:words], dim)


def test_too_few_words(vectors: np.ndarray) -> None:
    with pytest.raises(CharEmbedError, match="5 words are too few to fit 5 dimensions to"):
        Projection.fit(vectors[:5], 5)


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CharEmbedError, match="is no projection that charembed embed --dim has fitted"):
        Projection.load(path)


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="holds no projection: its vectors were written without --dim"):
        Projection.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"components": np.zeros((0, 4), np.float32)}, r"shapes \(4,\) and \(0, 4\)"),
        ({"components": np.ones((2, 4), np.float64)}, "is no projection"),
        ({"components": np.full((2, 4), np.nan, np.float32)}, "no finite numbers"),
        ({"mean": np.zeros(5, np.float32)}, "is no projection"),
        ({"explained": np.array([np.inf])}, "no finite numbers"),
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
