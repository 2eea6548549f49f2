"""Receives word vectors; hands on a projection to fewer dimensions that keeps most of their variance."""

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
"""In a folder of vectors, where readers of Parquet leave out what begins so."""


def check_dim(dim: int, width: int) -> None:
    """
    Raises:
        CharEmbedError: vectors of a width cannot be projected to so many dimensions.
    """
    if not 1 <= dim < width:
        raise CharEmbedError(f"dim must be from 1 to {width - 1}, below the width of the vectors, got {dim}")


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal components (Hotelling 1933)."""

    mean: Vectors
    """Shape: (embedding_dim,)"""
    components: Vectors
    """Orthonormal rows, the one of largest variance first. Shape: (dim, embedding_dim)"""
    explained: float
    """Share of the variance of the sample it was fitted on, from 0 to 1."""

    @classmethod
    def fit(cls, vectors: Vectors, dim: int) -> Projection:
        """Fit to a sample.

        Args:
            vectors: the sample. Shape: (words, embedding_dim)
            dim: dimensions to keep.

        Raises:
            CharEmbedError: as many dimensions as there are, or more than there are words.
        """
        words, width = vectors.shape
        check_dim(dim, width)
        if words <= dim:
            raise CharEmbedError(f"{words} words are too few to fit {dim} dimensions to: give more text, or lower dim")
        mean = vectors.mean(axis=0, dtype=np.float64)
        centered = vectors - mean.astype(np.float32)
        variances, directions = np.linalg.eigh((centered.T @ centered).astype(np.float64) / words)
        components = directions.T[::-1][:dim]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        components = components * np.sign(largest)  # a component's sign is arbitrary: always the same one
        explained = float(variances[::-1][:dim].sum() / max(variances.sum(), np.finfo(np.float64).tiny))
        return cls(mean.astype(np.float32), components.astype(np.float32), explained)

    @property
    def dim(self) -> int:
        """Width of what it gives."""
        return len(self.components)

    def __call__(self, vectors: Vectors) -> Vectors:
        """Project. Shape: (words, embedding_dim) to (words, dim)"""
        return np.asarray((vectors - self.mean) @ self.components.T, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        tensors = {"mean": self.mean, "components": self.components, "explained": np.array([self.explained])}
        atomic_write(path, safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Projection:
        """Read what `save` wrote.

        Args:
            name: the file, or the folder of vectors that it was fitted for.

        Raises:
            CharEmbedError: it is no projection.
        """
        path = user_path(name)
        if path.is_dir() and not (path / PROJECTION).exists():
            raise CharEmbedError(f"{path} holds no projection: its vectors were written without --dim")
        path = path / PROJECTION if path.is_dir() else path
        try:
            tensors = safetensors.numpy.load_file(path)
            mean, components, explained = (tensors[key] for key in ("mean", "components", "explained"))
        except (safetensors.SafetensorError, OSError, KeyError, AttributeError) as error:
            raise CharEmbedError(f"{path} is no projection that charembed embed --dim has fitted: {error}") from error
        arrays = (mean, components, explained)
        fits = components.ndim == 2 and len(components) > 0 and mean.shape == components.shape[1:]
        if not fits or explained.shape != (1,) or mean.dtype != np.float32 or components.dtype != np.float32:
            raise CharEmbedError(f"{path} is no projection: shapes {mean.shape} and {components.shape}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise CharEmbedError(f"{path} is no projection: it holds values that are no finite numbers")
        return cls(mean, components, float(explained.item()))
