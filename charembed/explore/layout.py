"""Lay vectors out in two dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.engine import Vectors


def two_dimensions(vectors: Vectors) -> NDArray[np.float64]:
    """Return points whose distances resemble the cosines of vectors. Shape: (words, dim) to (words, 2)"""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    centered = unit - unit.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : len(axes)] = centered @ axes[:2].T  # a single word has one axis
    return points
