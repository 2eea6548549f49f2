"""Read a folder that another process may be replacing: all of its files in one version."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from charembed.util.files import recover_folder

_WAITS, _WAIT = 400, 0.005
"""How often to look again for a folder that another process replaces, and the seconds in between."""
_Result = TypeVar("_Result")


def wait_for_folder(target: Path) -> None:
    """Recover a folder that does not exist, and wait for it while a live process replaces it.

    Between the two renames in `atomic_folder` there is no folder, though there was one before and will be one after.
    """
    for _ in range(_WAITS):
        if os.path.isdir(target):
            return
        with suppress(OSError):  # a folder that cannot be recovered is missing, as the caller will find
            if not recover_folder(target):
                return
        time.sleep(_WAIT)


def read_unchanged(target: Path, read: Callable[[], _Result]) -> _Result:
    """Return what a function reads from the files of a folder, all of one version of it.

    If another process replaces the folder in the meantime, the function is called again.

    Args:
        target: the folder.
        read: the function.
    """
    for _ in range(_WAITS):
        wait_for_folder(target)
        before = _identity(target)
        try:
            result = read()
        except Exception:
            if before == _identity(target):
                raise
        else:
            if before == _identity(target):
                return result
    return read()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return numbers that differ for a folder that takes the place of another; None if there is no folder."""
    try:
        status = folder.stat()
    except OSError:
        return None
    # The system may use the number of a removed folder again.
    return status.st_ino, status.st_mtime_ns
