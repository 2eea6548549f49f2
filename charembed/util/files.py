"""Receives the content of a file; hands it to the disk whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charembed.errors import CharEmbedError

_LOCK = ".lock"
RUN_LOCK = ".charembed.lock"
"""The file that makes a folder that of a training run."""
MANIFEST = "_embeddings.json"
"""The file that makes a folder one of vectors. Readers of Parquet leave out what begins so."""


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file aside, wait until the disk has it, and rename it into its place.

    Raises:
        OSError: it cannot be written; what was there is left as it was.
    """
    with atomic_file(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """`atomic_write`, for those who write the file themselves: the name to write to.

    Raises:
        OSError: it cannot be written; what was there is left as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


@contextmanager
def atomic_folder(target: Path, last: str) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` when it is complete; what was there goes.

    Args:
        target: the place.
        last: name of the file that is written last.

    Raises:
        OSError: it cannot be written; what was there is left as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(target, last)
    with (
        tempfile.TemporaryDirectory(prefix=_prefix(target), dir=target.parent) as aside,
        FileLock(Path(aside, _LOCK)),  # says that somebody is at work
    ):
        new, old = Path(aside, "new"), Path(aside, "old")
        new.mkdir()
        yield new
        fsync_files(new)
        try:
            if target.exists():
                os.replace(target, old)
            os.replace(new, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.replace(old, target)
            raise


def recover_folder(target: Path, last: str) -> None:
    """Clear away what a process that was killed in `atomic_folder` has left beside a folder; if it was between
    the two renames, the folder comes back."""
    for aside in target.parent.glob(glob.escape(_prefix(target)) + "*"):
        if not (aside / _LOCK).is_file() or {path.name for path in aside.iterdir()} - {"new", "old", _LOCK}:
            continue  # nothing of ours
        try:
            with FileLock(aside / _LOCK, blocking=False):
                for name in ("new", "old"):
                    if not target.exists() and (aside / name / last).exists():
                        os.replace(aside / name, target)
                shutil.rmtree(aside, ignore_errors=True)
        except Timeout:
            continue  # of a process that lives


def _prefix(target: Path) -> str:
    """Of the hidden folder beside the place."""
    return f".{target.name}.charembed-"


def check_contains_only(target: Path, names: Collection[str]) -> None:
    """Refuse to replace a folder that holds anything but some files, so that no other work is lost.

    Raises:
        CharEmbedError: the target is a file, or a folder that holds anything else.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise CharEmbedError(f"{target} is a file: name a folder")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in names)
    if foreign:
        raise CharEmbedError(f"{target} holds {foreign[0]}, which would be lost: name another folder")


def fsync_files(folder: Path) -> None:
    """Wait until the disk has the files of a folder, and their names.

    Raises:
        OSError: it cannot take them.
    """
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def fsync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system can be asked to."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def user_path(name: str | os.PathLike[str]) -> Path:
    """The path of a name, `~` expanded.

    Raises:
        CharEmbedError: `~` names no user of this machine.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise CharEmbedError(f"{os.fspath(name)}: {error}") from error


def escape_undecodable(name: str) -> str:
    """The name with bytes that are no UTF-8 spelt out, so that it can be written to any text file."""
    return name.encode("utf-8", "backslashreplace").decode()
