"""Notice damage to files that are read back: write a digest with the content, and compare it when the file is read.

The digest is SHA-256. CPUs have instructions for it, with which it is faster than BLAKE2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from charembed.util.reading import open_regular

DIGEST = "digest"
"""Key of the digest in sealed JSON and in the metadata of sealed tensors."""
_BLOCK = 1 << 20
"""Bytes that are read at a time."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        CharEmbedError: it is not a regular file.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, digest: str) -> None:
    """Compare a file with its digest.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has changed since the digest was computed, or is not a regular file.
    """
    if file_digest(path) != digest:
        raise ValueError(f"{path.name} has changed since it was written")


def update_from(digest: hashlib._Hash, file: BinaryIO, size: int) -> None:
    """Add the next bytes of a file to a digest; fewer, if it ends before.

    Args:
        digest: the digest.
        file: the file.
        size: number of bytes.
    """
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)


def seal_json(values: Mapping[str, Any], indent: int | None = None) -> str:
    """Return values as JSON with their digest.

    Args:
        values: the values, whose names are not `DIGEST`.
        indent: number of spaces of an indentation; by default all is in one line.
    """
    sealed = dict(values) | {DIGEST: _json_digest(values)}
    return json.dumps(sealed, indent=indent, ensure_ascii=False)


def unseal_json(text: str | bytes) -> dict[str, Any]:
    """Return the values that `seal_json` wrote.

    Raises:
        ValueError: the text is damaged or has no digest.
    """
    try:
        values = json.loads(text)
        digest = values.pop(DIGEST)
        intact = digest == _json_digest(values)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("it is not JSON with a digest") from error
    if not intact:
        raise ValueError("it has changed since it was written")
    return dict(values)


def _json_digest(values: Mapping[str, Any]) -> str:
    # ASCII, because the values may hold lone surrogates. The values as a reader gets them, such as lists for tuples.
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("ascii")).hexdigest()
