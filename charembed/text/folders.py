"""Find the local files that a user's names stand for: files, folders with their subfolders, and globs."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from charembed.errors import CharEmbedError
from charembed.text.compression import COMPRESSION_SUFFIXES, HEAD_SIZE, find_compression
from charembed.text.opening import JSONL_SUFFIXES, PARQUET_SUFFIX, RemoteFile, format_suffix, read_errors
from charembed.util.files import MANIFEST, RUN_LOCK, user_path
from charembed.util.shared_folder import open_file_system

logger = logging.getLogger(__name__)

FOLDER_SUFFIXES = (".txt", *JSONL_SUFFIXES, PARQUET_SUFFIX)
"""Formats of the files that are read when a folder is named."""
AnyPath = TypeVar("AnyPath", bound=PurePath)
_ANY_FOLDERS = "**"
"""Part of a glob that stands for any number of folders."""
_NAMED = 3
"""Number of files that a message names."""


def find_files(name: str) -> list[Path]:
    """Return the local files that a name stands for, sorted by path.

    Args:
        name: a file, a folder (searched with its subfolders for files in known formats), or a glob.

    Raises:
        CharEmbedError: there is no such file, a folder cannot be read, or it holds no text files or mostly text files
            that would be left out.
    """
    path = user_path(name)
    if path.is_dir():
        return _files_in_folder(path, name)
    if path.exists():
        return [path]
    folder, parts = _pattern_parts(path)
    above = frozenset(parent.resolve() for parent in (folder, *folder.parents) if parent.name)
    matches = sorted(set(_glob(folder, parts, above)))
    files = [match for match in matches if match.is_file()]
    if not files:
        hint = "; to name brackets, write [[] for [" if "[" in "".join(parts) else ""
        raise CharEmbedError(f"{name}: no such file or folder, and no file matches it as a glob{hint}")
    read = {parent for file in files for parent in file.parents}
    folders = [match for match in matches if match.is_dir() and match not in read]
    if folders:
        logger.info("%s: left out %s, since a glob names files: ** finds those within", name, _list(folders, "folder"))
    return files


def _pattern_parts(path: Path) -> tuple[Path, Sequence[str]]:
    """Return the folder that exists as it is written, in which brackets are no pattern, and the parts of the glob."""
    literal = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    known = 0
    while known < len(parts) and (literal / parts[known]).exists():
        literal /= parts[known]
        known += 1
    return literal, parts[known:]


def _glob(folder: Path, parts: Sequence[str], above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files and folders that match a glob as in `glob.glob`, which would follow links in loops without end.

    Args:
        folder: where to look.
        parts: parts of the glob below it.
        above: where the folder and those above it really are, which are not entered again.
    """
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == _ANY_FOLDERS:
        yield from _glob(folder, rest, above)
        below, rest = [entry for entry in _entries(folder) if not entry.name.startswith(".")], parts
        if len(parts) == 1:
            yield from (entry for entry in below if not entry.is_dir())
    elif glob.has_magic(part):
        shown = [entry for entry in _entries(folder) if part.startswith(".") or not entry.name.startswith(".")]
        below = [entry for entry in shown if fnmatch(entry.name, part)]
    else:
        below = [folder / part] if os.path.lexists(folder / part) else []
    for entry in below:
        if not rest:
            yield entry
        elif entry.is_dir() and (place := entry.resolve()) not in above:
            yield from _glob(entry, rest, above | {place})


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it cannot be read, as in `glob.glob`."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def find_remote_files(address: str) -> list[RemoteFile]:
    """Return the files that an address stands for, sorted by path.

    Args:
        address: a file; a folder if it ends in a slash (searched like a local one); or a glob if it contains a `*`,
            except in the query of a web address.

    Raises:
        CharEmbedError: the file system is not known or cannot be read, or there are no such files.
    """
    is_glob = "*" in address and not address.startswith(("http://", "https://"))
    if not is_glob and not address.endswith("/"):
        return [RemoteFile(address)]  # without asking for it: whether it exists turns out when it is read
    file_system, path = open_file_system(address)
    with read_errors(RemoteFile(address)):
        paths = sorted(file_system.glob(path) if is_glob else file_system.find(path))
    if is_glob:  # like a glob of local files
        paths = [found for found in paths if not PurePosixPath(found).name.startswith(".")]
        if not paths:
            raise CharEmbedError(f"{address}: no file matches it")
    else:
        root = PurePosixPath(path)
        relative = [PurePosixPath(found).relative_to(root) for found in paths]
        # What charembed has written into the folder is not text to read.
        outputs = {found.parent for found in relative if found.name in (RUN_LOCK, MANIFEST)}
        visible = [found for found in relative if not _is_hidden(found) and outputs.isdisjoint(found.parents)]
        files, left_out = _texts_among(visible, address)
        _log_skipped(address, left_out)
        paths = [str(root / found) for found in files]
    return [RemoteFile(file_system.unstrip_protocol(found)) for found in paths]


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _files_in_folder(folder: Path, name: str) -> list[Path]:
    files, left_out = _texts_among(sorted(_walk(folder, name, (folder.resolve(),))), name)
    # What is skipped may be pictures, or the text that matters.
    skipped_text = [path for path in left_out if _holds_text(path)]
    if _size(skipped_text) > _size(files):
        raise CharEmbedError(
            f"{name}: most of the text in this folder would be left out: only files in {', '.join(FOLDER_SUFFIXES)} are"
            f" read, and {_list(skipped_text, 'file')} with other suffixes are larger; name all by a glob, such as"
            f" '{skipped_text[0].parent}/*'"
        )
    _log_skipped(name, left_out)
    return files


def _texts_among(paths: Sequence[AnyPath], name: str) -> tuple[list[AnyPath], list[AnyPath]]:
    """Return those files of a folder that are text to read, and the others.

    Raises:
        CharEmbedError: there is no text to read.
    """
    files = [path for path in paths if format_suffix(Path(path)) in FOLDER_SUFFIXES]
    left_out = [path for path in paths if format_suffix(Path(path)) not in FOLDER_SUFFIXES]
    if not files:
        others = f", only {_list(left_out, 'file')}" if left_out else ""
        raise CharEmbedError(
            f"{name}: no file in this folder ends in {', '.join(FOLDER_SUFFIXES)} (or one of these with"
            f" {', '.join(COMPRESSION_SUFFIXES)}){others}; name other text files by a glob"
        )
    return files, left_out


def _log_skipped(name: str, left_out: Sequence[PurePath]) -> None:
    if left_out:
        logger.info("%s: skipped %s with other suffixes", name, _list(left_out, "file"))


def _walk(folder: Path, name: str, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files of a folder and of its subfolders, links included, without hidden files and outputs of charembed.

    Args:
        folder: the folder.
        name: what the user named, for messages.
        above: where the folder and those above it really are, so that a link to one of them is no endless loop.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CharEmbedError(f"{folder}: cannot be read: {error.strerror}") from error
    # What charembed has written into the folder is not text to read.
    if not {RUN_LOCK, MANIFEST}.isdisjoint(entry.name for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            place = entry.resolve()
            if place in above:
                logger.info("%s: skipped %s, a link to a folder that it is in", name, entry)
            else:
                yield from _walk(entry, name, (*above, place))
        elif entry.is_file():
            yield entry
        else:
            what = "not a regular file" if entry.exists() else "a link to a file that does not exist"
            logger.warning("%s: skipped %s, %s", name, entry, what)


def _holds_text(path: Path) -> bool:
    """Return whether a file begins like text or like compressed text."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_SIZE)
    except OSError as error:
        raise CharEmbedError(f"{path}: cannot be read: {error.strerror}") from error
    if find_compression(head) is not None:
        return True
    # A character may be cut at the end.
    return bool(head) and b"\0" not in head and "\ufffd" not in head.decode("utf-8", "replace")[:-1]


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _list(paths: Sequence[PurePath], kind: str) -> str:
    """Return how many paths there are, with the first ones."""
    names = ", ".join(str(path) for path in paths[:_NAMED])
    more = ", …" if len(paths) > _NAMED else ""
    return f"{len(paths)} {kind}{'s' if len(paths) > 1 else ''} ({names}{more})"
