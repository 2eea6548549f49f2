"""Reduce vectors to fewer dimensions by principal component analysis."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_write, user_path

Vectors = NDArray[np.float32]
PROJECTION = "_projection.safetensors"
"""File name in an output folder. Parquet readers ignore names that begin with an underscore."""


def check_dim(dim: int, width: int) -> None:
    """Check that vectors of a width can be reduced to a number of dimensions.

    Raises:
        CharEmbedError: `dim` is not between 1 and `width` - 1.
    """
    if not 1 <= dim < width:
        raise CharEmbedError(f"dim must be from 1 to {width - 1} for vectors of {width} dimensions, got {dim}")


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection onto principal components (Hotelling 1933)."""

    mean: Vectors
    """Mean vector of the sample. Shape: (embedding_dim,)"""
    components: Vectors
    """Principal components as orthonormal rows, in descending order of variance. Shape: (dim, embedding_dim)"""
    explained: float
    """Share of the sample's variance that the projection keeps, from 0 to 1."""

    @classmethod
    def fit(cls, vectors: Vectors, dim: int) -> Projection:
        """Fit a projection to a sample of vectors.

        Args:
            vectors: the sample. Shape: (words, embedding_dim)
            dim: number of dimensions to keep.

        Raises:
            CharEmbedError: `dim` is not below the width of the vectors, or the sample does not have more than `dim`
                words.
        """
        words, width = vectors.shape
        check_dim(dim, width)
        if words <= dim:
            raise CharEmbedError(f"{words} words are too few to fit {dim} dimensions: give more text, or reduce dim")
        mean = vectors.mean(axis=0, dtype=np.float64)
        centered = vectors - mean.astype(np.float32)
        # Eigenvectors of the covariance matrix; eigh sorts them by ascending variance.
        variances, eigenvectors = np.linalg.eigh((centered.T @ centered).astype(np.float64) / words)
        components = eigenvectors.T[::-1][:dim]
        # The sign of an eigenvector is arbitrary: make each component's largest element positive.
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        components = components * np.sign(largest)
        explained = float(variances[::-1][:dim].sum() / max(variances.sum(), np.finfo(np.float64).tiny))
        return cls(mean.astype(np.float32), components.astype(np.float32), explained)

    @property
    def dim(self) -> int:
        """Number of dimensions of projected vectors."""
        return len(self.components)

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the projected vectors. Shape: (words, embedding_dim) to (words, dim)"""
        return np.asarray((vectors - self.mean) @ self.components.T, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the projection as a safetensors file, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        tensors = {"mean": self.mean, "components": self.components, "explained": np.array([self.explained])}
        atomic_write(path, safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Projection:
        """Read a projection that `save` wrote.

        Args:
            name: its file, or the output folder that contains it.

        Raises:
            CharEmbedError: the file cannot be read or is not a projection.
        """
        path = user_path(name)
        if path.is_dir() and not (path / PROJECTION).exists():
            raise CharEmbedError(f"{path} contains no projection: its vectors were written without --dim")
        path = path / PROJECTION if path.is_dir() else path
        try:
            tensors = safetensors.numpy.load_file(path)
            mean, components, explained = (tensors[key] for key in ("mean", "components", "explained"))
        except (safetensors.SafetensorError, OSError, KeyError, AttributeError) as error:
            raise CharEmbedError(f"{path} is not a projection written by charembed embed --dim: {error}") from error
        arrays = (mean, components, explained)
        shapes_match = components.ndim == 2 and len(components) > 0 and mean.shape == components.shape[1:]
        types_match = mean.dtype == components.dtype == np.float32
        if not shapes_match or not types_match or explained.shape != (1,):
            raise CharEmbedError(
                f"{path} is not a projection: its mean is {mean.dtype} of shape {mean.shape}, its components are"
                f" {components.dtype} of shape {components.shape}"
            )
        if not all(np.isfinite(array).all() for array in arrays):
            raise CharEmbedError(f"{path} is not a projection: it contains values that are not finite")
        return cls(mean, components, float(explained.item()))
