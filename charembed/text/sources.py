"""Find the files and data sets that a user's names stand for."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.text.opening import COMPRESSION_SUFFIXES, File, RemoteFile, format_suffix, open_raw, read_errors
from charembed.util.files import MANIFEST, RUN_LOCK, user_path
from charembed.util.shared_folder import is_address, open_file_system

logger = logging.getLogger(__name__)

DATASET_PREFIX = "dataset:"
JSONL_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIX = ".parquet"
FOLDER_SUFFIXES = (".txt", *JSONL_SUFFIXES, PARQUET_SUFFIX)
"""Formats of the files that are read when a folder is named."""


@dataclass(frozen=True)
class DatasetName:
    """A Hugging Face data set: `dataset:NAME[,config=C][,split=S]`."""

    name: str
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, name: str) -> DatasetName:
        """Parse the name that a user gives, with its prefix.

        Raises:
            CharEmbedError: an option is neither `config=` nor `split=`, or the name is missing.
        """
        base, *options = name.removeprefix(DATASET_PREFIX).split(",")
        values: dict[str, str] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in ("config", "split") or not value:
                raise CharEmbedError(f"{name}: expected config=… or split=… after the name, got {option!r}")
            values[key] = value
        if not base:
            raise CharEmbedError(f"{name}: the name of the data set is missing")
        # The full path, so that two ways to write the name of a local folder are the same data set.
        local = user_path(base)
        return cls(os.fspath(local.resolve()) if local.exists() else base, **values)

    def __str__(self) -> str:
        return f"data set {self.name}"

    def content_digest(self) -> str:
        """Return a digest that changes with the content: of its files, or of what `datasets` identifies it by.

        Raises:
            ValueError, OSError: there is no such data set or configuration.
            MissingExtraError: `datasets` is not installed.
        """
        folder = Path(self.name)
        if folder.is_dir():
            files = (path for path in sorted(folder.rglob("*")) if path.is_file())
            return _digest_lines(f"{path.relative_to(folder)} {_file_digest(path)}" for path in files)
        datasets = import_extra("datasets", extra="train", purpose=f"reading the {self}")
        builder = datasets.load_dataset_builder(self.name, self.config)
        return _digest_lines([builder.config_id, str(builder.hash)])

    def open(self) -> Iterable[dict[str, Any]]:
        """Return its records; those of a data set that is not in a local folder are streamed.

        Raises:
            ValueError, OSError: there is no such data set, configuration or split.
            MissingExtraError: `datasets` is not installed.
        """
        datasets = import_extra("datasets", extra="train", purpose=f"reading the {self}")
        split = self.split or "train"
        records: Iterable[dict[str, Any]]
        # `load_dataset` does not read what `Dataset.save_to_disk` has written …
        if os.path.exists(os.path.join(self.name, "state.json")):
            if self.split is not None:
                raise ValueError(f"it is one split saved alone: leave split={self.split} out")
            records = datasets.load_from_disk(self.name)
        # … nor what `DatasetDict.save_to_disk` has written.
        elif os.path.exists(os.path.join(self.name, "dataset_dict.json")):
            splits = datasets.load_from_disk(self.name)
            if split not in splits:
                raise ValueError(f"no split {split!r}, there are: {', '.join(splits)}")
            records = splits[split]
        else:
            records = datasets.load_dataset(self.name, self.config, split=split, streaming=True)
        return records


Source = File | DatasetName


def find_sources(name: str) -> list[Source]:
    """Return the files or the data set that a name stands for.

    Args:
        name: a data set (`dataset:…`), an address (with `://`) as in `find_remote_files`, or a file, folder or glob as
            in `find_files`.

    Raises:
        CharEmbedError: the name stands for nothing that can be read.
    """
    if name.startswith(DATASET_PREFIX):
        return [DatasetName.parse(name)]
    if is_address(name):
        return [*find_remote_files(name)]
    return [*find_files(name)]


def find_files(name: str) -> list[Path]:
    """Return the local files that a name stands for, sorted by path.

    Args:
        name: a file, a folder (searched with its subfolders for files in known formats), or a glob.

    Raises:
        CharEmbedError: there is no such file, or the folder holds no text files.
    """
    if not name:
        raise CharEmbedError("the name of a text file is empty")
    path = user_path(name)
    if path.is_dir():
        return _files_in_folder(path, name)
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    files = [match for match in matches if match.is_file()]
    if not files:
        raise CharEmbedError(f"{name}: no such file or folder, and no file matches it as a glob")
    return files


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
    if not is_glob:
        root = PurePosixPath(path)
        relative = [PurePosixPath(found).relative_to(root) for found in paths]
        paths = [str(root / found) for found in _texts_in_folder(relative, address)]
    elif not paths:
        raise CharEmbedError(f"{address}: no file matches it")
    return [RemoteFile(file_system.unstrip_protocol(found)) for found in paths]


def _files_in_folder(folder: Path, name: str) -> list[Path]:
    relative = [PurePosixPath(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [folder / path for path in _texts_in_folder(relative, name)]


def _texts_in_folder(paths: Sequence[PurePosixPath], name: str) -> list[PurePosixPath]:
    """Return those files of a folder that are text to read, by their paths in it.

    Raises:
        CharEmbedError: there are none.
    """
    # What charembed has written into the folder is not text to read.
    outputs = {path.parent for path in paths if path.name in (RUN_LOCK, MANIFEST)}
    visible = [path for path in paths if not _is_hidden(path) and outputs.isdisjoint(path.parents)]
    files = [path for path in visible if format_suffix(Path(path)) in FOLDER_SUFFIXES]
    if not files:
        raise CharEmbedError(
            f"{name}: no file in this folder ends in {', '.join(FOLDER_SUFFIXES)} (or one of these with"
            f" {', '.join(COMPRESSION_SUFFIXES)}); name other text files by a glob"
        )
    if len(files) < len(visible):
        count = len(visible) - len(files)
        logger.info("%s: skipped %s with other suffixes", name, "1 file" if count == 1 else f"{count} files")
    return files


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def content_digest(source: Source) -> str | None:
    """Return a digest that changes with the content of a source.

    Returns:
        The digest, or None for a pipe, which can be read only once.

    Raises:
        CharEmbedError: the source cannot be read.
        MissingExtraError: `datasets` is not installed.
    """
    if isinstance(source, DatasetName):
        try:
            return f"{source.split or 'train'} {source.content_digest()}"
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{source} cannot be read: {error}") from error
    if isinstance(source, Path) and not source.is_file():
        return None
    # The same bytes are read differently under another suffix.
    return f"{format_suffix(source)} {_file_digest(source)}"


def _file_digest(file: File) -> str:
    digest = hashlib.sha256()
    with read_errors(file), open_raw(file) as content:
        for block in iter(partial(content.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _digest_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
