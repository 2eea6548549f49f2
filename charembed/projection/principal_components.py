"""Reduce vectors to fewer dimensions by principal component analysis."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.recurrent.products import linear
from charembed.util.reading import parse_json
from charembed.util.tensor_files import MAX_VALUE, read_tensors

Vectors = NDArray[np.float32]
_ROWS_PER_PRODUCT = 48
"""Number of vectors in each product, which is filled up with zeros. oneDNN sums all rows of 48 in the same way (seen
with PyTorch 2.4, 2.8 and 2.13); with other numbers, earlier versions sum the last rows in another way."""


def check_dim(dim: int, width: int) -> None:
    """Check that vectors of a width can be reduced to a number of dimensions.

    Raises:
        CharEmbedError: `dim` is not between 1 and `width` - 1.
    """
    if not 1 <= dim < width:
        raise CharEmbedError(f"dim must be from 1 to {width - 1} for vectors of {width} dimensions, got {dim}")


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection onto principal components (Hotelling 1933).

    Principal components are nested: the first n of them are the best n dimensions, whatever their total number.
    """

    mean: Vectors
    """Mean vector of the sample. Shape: (embedding_dim,)"""
    components: Vectors
    """Principal components as orthonormal rows, in descending order of variance. Shape: (dim, embedding_dim)"""
    variance_shares: Vectors
    """Share of the sample's variance along each component, from 0 to 1. Shape: (dim,)"""
    parts: tuple[str, ...] = ()
    """Parts of which the vectors of the sample consist, in order; empty if they are not known."""
    readout: str = ""
    """Readout of the vectors of the sample; empty if it is not known."""

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
        # Rounding can make the smallest variances negative.
        shares = np.maximum(variances[::-1][:dim], 0) / max(variances.sum(), np.finfo(np.float64).tiny)
        mean, components, shares = (np.ascontiguousarray(array, np.float32) for array in (mean, components, shares))
        return cls(mean, components, shares)

    @property
    def dim(self) -> int:
        """Number of dimensions of projected vectors."""
        return len(self.components)

    @property
    def width(self) -> int:
        """Number of dimensions of the vectors to project."""
        return int(self.components.shape[1])

    @property
    def explained(self) -> float:
        """Share of the sample's variance that the projection keeps, from 0 to 1."""
        return float(self.variance_shares.sum(dtype=np.float64))

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the projected vectors, each the same bit for bit whatever the others are.

        Shape: (words, embedding_dim) to (words, dim)
        """
        # oneDNN sums the products of each row of such a block in the same order, which NumPy's libraries do not.
        components = torch.from_numpy(np.require(self.components, requirements="W"))
        projected = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(vectors), _ROWS_PER_PRODUCT):
            rows = vectors[start : start + _ROWS_PER_PRODUCT]
            centered = np.zeros((_ROWS_PER_PRODUCT, self.width), np.float32)
            np.subtract(rows, self.mean, out=centered[: len(rows)])
            projected.append(linear(torch.from_numpy(centered), components)[: len(rows)].numpy())
        return np.concatenate(projected)

    def first(self, dim: int) -> Projection:
        """Return the projection onto the first components only.

        Args:
            dim: number of components, from 1 to that of this projection.
        """
        return dataclasses.replace(self, components=self.components[:dim], variance_shares=self.variance_shares[:dim])

    def rounded(self) -> Projection:
        """Return the projection with components that float16 represents exactly."""
        return dataclasses.replace(self, components=self.components.astype(np.float16).astype(np.float32))

    def to_bytes(self, dtype: Literal["float32", "float16"] = "float32") -> bytes:
        """Return the content of a safetensors file with the projection.

        Args:
            dtype: type in which the components are stored. Values from -1 to 1 lose little in float16.
        """
        tensors = {"mean": self.mean, "components": self.components.astype(dtype), "explained": self.variance_shares}
        # One key only: the order in which safetensors writes several is random, and equal projections have equal bytes.
        metadata = {"vectors": json.dumps({"parts": self.parts, "readout": self.readout})}
        return safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata)

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> Projection:
        """Read the content of a file that `to_bytes` returned.

        Args:
            content: the bytes of the file.
            source: where they come from, for error messages.

        Raises:
            CharEmbedError: the bytes are not a projection.
        """
        try:
            tensors, metadata = read_tensors(content)
            mean, components, shares = (tensors[key] for key in ("mean", "components", "explained"))
        except (ValueError, KeyError) as error:
            raise CharEmbedError(f"{source} is not a projection: {error}") from error
        types_match = mean.dtype == np.float32 and components.dtype in (np.float32, np.float16)
        types_match = types_match and np.issubdtype(shares.dtype, np.floating)
        shapes_match = components.ndim == 2 and len(components) > 0 and mean.shape == components.shape[1:]
        if not types_match or not shapes_match or shares.shape not in ((1,), (len(components),)):
            raise CharEmbedError(
                f"{source} is not a projection: its mean is {mean.dtype} of shape {mean.shape}, its components are"
                f" {components.dtype} of shape {components.shape}, its shares of variance {shares.dtype} of shape"
                f" {shares.shape}"
            )
        with np.errstate(over="ignore"):
            components, shares = components.astype(np.float32), shares.astype(np.float32)
        if not all((np.abs(array) <= MAX_VALUE).all() for array in (mean, components, shares)):  # false for NaN too
            raise CharEmbedError(f"{source} is not a projection: it contains values that are not finite, or huge")
        if len(shares) < len(components):
            # Version 0.1.0 stored the sum of all shares only. How it is divided does not matter then.
            shares = np.full(len(components), shares.item() / len(components), np.float32)
        parts, readout = _described_vectors(metadata, source)
        return cls(mean, components, shares, parts, readout)


def _described_vectors(metadata: dict[str, str], source: str) -> tuple[tuple[str, ...], str]:
    """Return the parts and the readout in the header of a safetensors file. Both are empty in files of version 0.1.0.

    Raises:
        CharEmbedError: the header describes the vectors in another form.
    """
    description = metadata.get("vectors")
    if description is None:
        return (), ""
    try:
        vectors = parse_json(description)
        parts, readout = vectors["parts"], vectors["readout"]
    except (ValueError, TypeError, KeyError) as error:
        raise CharEmbedError(f"{source} is not a projection: its header does not describe the vectors") from error
    if not isinstance(parts, list) or not all(isinstance(text, str) for text in (readout, *parts)):
        raise CharEmbedError(f"{source} is not a projection: its header does not describe the vectors")
    return tuple(parts), readout
