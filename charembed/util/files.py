"""Write files and folders so that they are complete or absent, and check paths that users name."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout

from charembed.errors import CharEmbedError
from charembed.util.outputs import check_output_folder, output_file

_IS_POSIX = os.name == "posix"
_LOCK = ".lock"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]+\.tmp")
"""Name of the temporary file of `atomic_file`."""
RUN_LOCK = ".charembed.lock"
"""File that marks a folder as the output of a training run."""
MANIFEST = "_embeddings.json"
"""File that marks a folder as holding embeddings. Parquet readers ignore names that begin with an underscore."""


def atomic_write(path: Path, content: bytes | str) -> None:
    r"""Write a file under a temporary name, flush it to the disk and rename it.

    Args:
        path: the file.
        content: its bytes, or its text, which is written as UTF-8. The bytes of file names that are not UTF-8 become
            `\udcXX`, which JSON reads as the same name.

    Raises:
        CharEmbedError: the path is not that of a file, as in `output_file`.
        OSError: the file cannot be written; an existing file stays as it was.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to, then flush the file to the disk and rename it to `path`.

    A symbolic link stays: the file that it leads to is replaced.

    Raises:
        CharEmbedError: the path is not that of a file, as in `output_file`.
        OSError: the file cannot be written; an existing file stays as it was.
    """
    target = output_file(path)
    # Random, because processes on several machines may share the folder, and have the same number.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with errors_name(path, instead_of=str(temporary)):
        try:
            yield temporary
            fsync_file(temporary)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink()
            raise
        fsync_folder(target.parent)


@contextmanager
def errors_name(path: Path, instead_of: str | None = None) -> Iterator[None]:
    """Let errors of the system name the file or folder that the user knows.

    Args:
        path: the file or folder.
        instead_of: what the temporary names begin with; None if there are none.
    """
    try:
        yield
    except OSError as error:
        # Errors of writing, such as a full disk, have no name. Those of NumPy do not even have a number.
        is_unnamed = type(error) is OSError and error.filename is None
        if not is_unnamed and (instead_of is None or not str(error.filename).startswith(instead_of)):
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)) from error


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed in `atomic_file` have left in a folder.

    Call this only while no other process can be writing the files, because the names do not tell whose they are. With
    a name, only what is left of this file is removed.
    """
    beginning = "" if name is None else f".{name}."
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and path.name.startswith(beginning):
            path.unlink(missing_ok=True)


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file until the context ends, and remove what killed ones have left of it.

    Raises:
        CharEmbedError: another process is writing the file, or its folder does not exist.
        OSError: the folder cannot be written.
    """
    if not path.parent.is_dir():
        raise CharEmbedError(f"no such folder: {path.parent}; create it, or change output")
    lock = path.with_name(f".{path.name}{_LOCK}")
    try:
        with errors_name(path, instead_of=str(lock)), FileLock(lock, timeout=0):
            try:
                remove_leftovers(path.parent, path.name)
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    lock.unlink()
    except Timeout as error:
        raise CharEmbedError(f"output {path} is in use by another run: choose another file") from error


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; afterwards it replaces `target`, and what `target` held is removed.

    What a killed process has left there is cleared away first, as by `recover_folder`.

    Raises:
        CharEmbedError: the target cannot be a folder, as in `check_output_folder`.
        OSError: the folder cannot be written; an existing folder stays as it was.
    """
    check_output_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(target)
    # A hidden folder next to the target, thus on the same file system, so that renaming is atomic.
    with (
        errors_name(target, instead_of=str(target.with_name(_prefix(target)))),
        _locked_folder(target.parent, _prefix(target)) as temporary,
    ):
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        # The renames must not reach the disk before the content does.
        fsync_files(new)
        # No system call replaces a folder that is not empty, so there are two renames. A process killed between them
        # leaves `old` and a complete `new`.
        try:
            if target.exists():
                os.replace(target, old)
            os.replace(new, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.replace(old, target)
            raise
        fsync_folder(target.parent)


def recover_folder(target: Path) -> bool:
    """Clear away what a process that was killed in `atomic_folder` has left next to a folder.

    If it was killed between the two renames, the new folder takes its place. If it was killed before the first one, the
    new folder is removed, even if it was complete.

    Returns:
        Whether a live process is writing the folder.
    """
    is_written = False
    for temporary, is_live in _scratch_folders(target.parent, _prefix(target), {"new", "old"}):
        is_written |= is_live
        new, old = temporary / "new", temporary / "old"
        # `old` exists only after the first rename, when `new` was complete and on the disk.
        if not is_live and not target.exists() and old.exists():
            os.replace(new if new.exists() else old, target)
    return is_written


@contextmanager
def scratch_folder(purpose: str, names: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder among the temporary files of the system, and remove it at the end.

    Folders that killed processes have left for the same purpose are removed too.

    Args:
        purpose: one word.
        names: patterns of the names of all files that are written to it, as for `fnmatch`.
    """
    parent, prefix = Path(tempfile.gettempdir()), f"charembed-{purpose}-"
    for _ in _scratch_folders(parent, prefix, names):
        pass  # abandoned ones are removed after each turn
    with _locked_folder(parent, prefix) as folder:
        yield folder


@contextmanager
def _locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder, whose lock says that the process that made it is alive, and remove it at the end.

    The system releases the lock of a process that is killed.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder, FileLock(Path(folder, _LOCK)):
        yield Path(folder)


def _scratch_folders(parent: Path, prefix: str, names: Collection[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of `_locked_folder`, and whether the process that made each is alive.

    Those of processes that were killed are removed after their turn. Folders of this prefix in which there is anything
    but files of these names are somebody else's, and left alone.
    """
    for folder in parent.glob(glob.escape(prefix) + "*"):
        try:
            contents = {path.name for path in folder.iterdir()}
            foreign = [name for name in contents - {_LOCK} if not any(fnmatch(name, pattern) for pattern in names)]
            if foreign or _LOCK not in contents:
                continue
            with FileLock(folder / _LOCK, blocking=False):
                yield folder, False
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            yield folder, True
        except OSError:
            continue  # it was removed just now, or it is another user's


def _prefix(target: Path) -> str:
    """Return how the names of the temporary folders of a folder begin."""
    return f".{target.name}.charembed-"


def check_contains_only(target: Path, names: Collection[str]) -> None:
    """Refuse to replace a folder that holds anything but files of the given names, so that no other work is lost.

    Raises:
        CharEmbedError: the target is a folder that holds something else, or cannot be a folder, as in
            `check_output_folder`.
    """
    check_output_folder(target)
    if not target.exists():
        return
    foreign = sorted(path.name for path in target.iterdir() if path.name not in names)
    if foreign:
        raise CharEmbedError(f"{target} holds {foreign[0]}, which would be lost: name another folder")


def fsync_files(folder: Path) -> None:
    """Flush the files of a folder and of its subfolders, and their names, to the disk.

    Raises:
        OSError: the disk cannot take them.
    """
    for path in folder.iterdir():
        if path.is_dir():
            fsync_files(path)
            continue
        fsync_file(path)
    fsync_folder(folder)


def fsync_file(path: Path) -> None:
    """Flush a file to the disk.

    Raises:
        OSError: the disk cannot take it.
    """
    # Windows flushes only what is open for writing; elsewhere a file that cannot be written is flushed too.
    with path.open("rb" if _IS_POSIX else "r+b") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, on systems that can do so."""
    if _IS_POSIX:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return the path that a user names, with `~` expanded.

    Raises:
        CharEmbedError: the name is empty or contains the character U+0000, or `~` names no user of this machine.
    """
    if os.fspath(name) == "":  # would be the current folder
        raise CharEmbedError("the name of a file or folder is empty: give a name, or . for the current folder")
    if "\0" in os.fspath(name):
        raise CharEmbedError(f"{os.fspath(name)!r} cannot be the name of a file or folder: it contains U+0000")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise CharEmbedError(f"{os.fspath(name)}: {error}") from error


def run_path(name: str | os.PathLike[str]) -> Path:
    """Return the path of the output folder of a run.

    Raises:
        CharEmbedError: the name is not UTF-8, so that safetensors could not read the checkpoints in it; or it is none
            at all, as in `user_path`.
    """
    path = user_path(name)
    check_utf8(path, "in which checkpoints could not be read again")
    return path


def check_utf8(path: Path, consequence: str) -> None:
    """Refuse an output whose name is not UTF-8, for a library that opens no other files.

    Args:
        path: the output.
        consequence: what could not be done with it; the end of the sentence.

    Raises:
        CharEmbedError: the name is not UTF-8.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise CharEmbedError(
            f"output {escape_undecodable(os.fspath(path))}: the name is not UTF-8, {consequence}: choose another name"
        ) from error


def escape_undecodable(name: str) -> str:
    r"""Return a file name with the bytes that are not UTF-8 written as `\udcXX`, so that any text file can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()
