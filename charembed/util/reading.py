"""Open and read files of strangers: regular files alone, of a limited size, and JSON of a limited depth."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError

MAX_JSON_BYTES = 4_000_000
"""Largest JSON file. Parsed, it takes up to thirty times as much memory."""
MAX_JSON_DEPTH = 50
"""Deepest nesting of JSON. What is parsed is also written and copied by functions that call themselves."""
_MIN_SPARSE_BYTES = 2**26
_MIN_STORED_SHARE = 1 / 64
"""Share of a large file that the disk must hold. Weights can hardly be compressed, not even by a file system."""


def read_file(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the content of a regular file.

    Exactly as many bytes are read as the file system says there are: a pipe or a device may never end, and files in
    /proc, which claim to have none, may wait for events. They are copied, so the result stays as it is whatever happens
    to the file.

    Args:
        path: path of the file.
        max_bytes: largest size; by default it is not limited.

    Raises:
        CharEmbedError: a pipe, a device or a folder; a file that is too large, has almost no data for its size, or
            shrinks while it is read.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if max_bytes is not None and size > max_bytes:
            raise CharEmbedError(f"{path} has {size:,} bytes, expected at most {max_bytes:,}")
        stored = getattr(status, "st_blocks", size) * 512  # Windows does not say
        if size >= _MIN_SPARSE_BYTES and stored < size * _MIN_STORED_SHARE:
            raise CharEmbedError(f"{path} claims to have {size:,} bytes, of which only {stored:,} are stored")
        content = file.read(size)
    if len(content) < size:
        raise CharEmbedError(f"{path} has become shorter while it was read: {len(content):,} of {size:,} bytes")
    return content


@contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file to read its bytes.

    Raises:
        CharEmbedError: a pipe, which nobody may ever write to, a device or a folder.
        OSError: the file cannot be read.
    """
    check_regular(path)
    with open(path, "rb", opener=_open_at_once) as file:
        # Another file may have taken its place since.
        _check_mode(path, os.fstat(file.fileno()))
        yield file


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file before something else opens it, such as a library.

    Raises:
        CharEmbedError: a pipe, which nobody may ever write to, a device or a folder.
        OSError: there is no such file.
    """
    _check_mode(path, path.stat())


def _check_mode(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CharEmbedError(f"{path} is not a regular file")


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe would wait for somebody to write to it. Windows has neither such pipes nor the flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text of limited depth.

    Raises:
        ValueError: not JSON, not UTF-8, too large, or nested too deep.
    """
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, expected at most {MAX_JSON_BYTES:,}")
    try:
        value = json.loads(content.decode() if isinstance(content, bytes) else content)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it is nested more than {MAX_JSON_DEPTH} levels deep"
