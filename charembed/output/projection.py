"""The projection that an output folder contains if its vectors are reduced."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.projection import Projection
from charembed.util.files import atomic_write, user_path
from charembed.util.reading import read_file

PROJECTION = "_projection.safetensors"
"""File name in an output folder. Parquet readers ignore names that begin with an underscore."""


def summary(projection: Projection) -> dict[str, Any]:
    """Return what the manifest says about a projection."""
    return {
        "dim": projection.dim,
        "explained_variance": round(projection.explained, 4),
        "sha256": hashlib.sha256(projection.to_bytes()).hexdigest(),
    }


def save_projection(projection: Projection, folder: Path) -> None:
    """Write the projection of an output folder, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    atomic_write(folder / PROJECTION, projection.to_bytes())


def load_projection(name: str | os.PathLike[str]) -> Projection:
    """Read the projection of an output folder.

    Args:
        name: the output folder, or the file of the projection.

    Raises:
        CharEmbedError: the file cannot be read or is not a projection.
    """
    path = user_path(name)
    if path.is_dir() and not (path / PROJECTION).exists():
        raise CharEmbedError(f"{path} contains no projection: its vectors were written without --dim")
    path = path / PROJECTION if path.is_dir() else path
    try:
        content = read_file(path)
    except OSError as error:
        raise CharEmbedError(f"{path} is not a projection: {error}") from error
    return Projection.from_bytes(content, str(path))
