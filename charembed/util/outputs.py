"""Find before the work what an output cannot be written to."""

from __future__ import annotations

import os
from pathlib import Path

from charembed.errors import CharEmbedError


def output_file(path: Path) -> Path:
    """Return the file that is written as an output: the path itself, or the file that a symbolic link leads to.

    Call this before the work, because `atomic_file` refuses the same paths only at the end of it.

    Raises:
        CharEmbedError: the path is that of a folder, a device, a pipe or a socket.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    # Only links in a circle lead to a link. A link of the system, such as /dev/stdout, can lead to a pipe without a
    # path of its own.
    if (path.exists() or target.is_symlink()) and not path.is_file():
        raise CharEmbedError(f"output {path} is {_kind(path)}: name a regular file")
    return target


def check_output_folder(path: Path) -> None:
    """Check that an output is a folder or can become one.

    Raises:
        CharEmbedError: it, or what should be the folder around it, is something else.
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if os.path.lexists(place):
            cause = "" if place == path else f"cannot be created: {place} "
            raise CharEmbedError(f"output {path} {cause}is {_kind(place)}: name a folder")


def _kind(path: Path) -> str:
    """Return what an existing path is, for an error message."""
    if not path.exists():
        return "a link to nothing"
    if path.is_dir():
        return "a folder"
    return "a file" if path.is_file() else "a device, pipe or socket"
