"""Receives names of files as users write them; hands on paths to open, and names that can be stored as text."""

from __future__ import annotations

import os
from pathlib import Path

from charembed.errors import CharEmbedError

RUN_LOCK = ".charembed.lock"
"""The file that makes a folder that of a training run."""
MANIFEST = "_embeddings.json"
"""The file that makes a folder one of vectors. Readers of Parquet leave out what begins so."""


def user_path(name: str | os.PathLike[str]) -> Path:
    """The path of a name, `~` expanded.

    Raises:
        CharEmbedError: `~` names no user of this machine.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise CharEmbedError(f"{os.fspath(name)}: {error}") from error


def printable(name: str) -> str:
    """The name with bytes that are no UTF-8 spelt out, so that it can be written to any text file."""
    return name.encode("utf-8", "backslashreplace").decode()
