"""Receives what a user calls text: files, folders, globs, data sets; hands on the files and data sets meant."""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import logging
import lzma
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from charembed.errors import CharEmbedError, import_extra
from charembed.util.files import MANIFEST, RUN_LOCK, user_path

logger = logging.getLogger(__name__)

DATASET_PREFIX = "dataset:"
PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
JSONL_SUFFIXES = (".jsonl", ".ndjson")
FOLDER_SUFFIXES = (".txt", *JSONL_SUFFIXES, ".parquet")


@dataclass(frozen=True)
class DatasetName:
    """A Hugging Face data set: `dataset:NAME[,config=C][,split=S]`."""

    name: str
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, source: str) -> DatasetName:
        """
        Raises:
            CharEmbedError: an option is not `config=` or `split=`, or the name is missing.
        """
        name, *options = source.removeprefix(DATASET_PREFIX).split(",")
        given: dict[str, str] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in ("config", "split") or not value:
                raise CharEmbedError(f"{source}: expected config=… or split=… after the name, got {option!r}")
            given[key] = value
        if not name:
            raise CharEmbedError(f"{source}: the name of the data set is missing")
        local = user_path(name)
        return cls(os.fspath(local.resolve()) if local.exists() else name, **given)

    def __str__(self) -> str:
        return f"data set {self.name}"

    def content_digest(self) -> str:
        """What changes when its content does: a digest of its files, or what the library that reads it names it by.

        Raises:
            ValueError, OSError: no such data set or configuration.
            MissingExtraError: `datasets` is not installed.
        """
        folder = Path(self.name)
        if folder.is_dir():
            files = (path for path in sorted(folder.rglob("*")) if path.is_file())
            return _digest(f"{path.relative_to(folder)} {_file_digest(path)}" for path in files)
        datasets = import_extra("datasets", extra="train", purpose=f"reading the {self}")
        builder = datasets.load_dataset_builder(self.name, self.config)
        return _digest([builder.config_id, str(builder.hash)])

    def open(self) -> Iterable[dict[str, Any]]:
        """Its records, streamed where it does not lie in a local folder.

        Raises:
            ValueError, OSError: no such data set, configuration or split.
            MissingExtraError: `datasets` is not installed.
        """
        datasets = import_extra("datasets", extra="train", purpose=f"reading the {self}")
        split = self.split or "train"
        records: Iterable[dict[str, Any]]
        if os.path.exists(os.path.join(self.name, "state.json")):  # what Dataset.save_to_disk wrote
            if self.split is not None:
                raise ValueError(f"it is one split saved alone: leave split={self.split} out")
            records = datasets.load_from_disk(self.name)
        elif os.path.exists(os.path.join(self.name, "dataset_dict.json")):  # … and DatasetDict.save_to_disk
            splits = datasets.load_from_disk(self.name)
            if split not in splits:
                raise ValueError(f"no split {split!r}, there are: {', '.join(splits)}")
            records = splits[split]
        else:
            records = datasets.load_dataset(self.name, self.config, split=split, streaming=True)
        return records


def find_files(source: str) -> list[Path]:
    """Files that a source names, sorted by path: a file, a folder with its subfolders, or a glob.

    Raises:
        CharEmbedError: it names no file, or a folder without text files.
    """
    if not source:
        raise CharEmbedError("the name of a text file is empty")
    path = user_path(source)
    if path.is_dir():
        # What training and embedding write is no text to read.
        ours = {mark.parent for name in (RUN_LOCK, MANIFEST) for mark in path.rglob(name)}
        visible = [
            p for p in sorted(path.rglob("*")) if p.is_file() and not _is_hidden(p, path) and ours.isdisjoint(p.parents)
        ]
        found = [p for p in visible if format_suffix(p) in FOLDER_SUFFIXES]
        if not found:
            wanted = ", ".join(FOLDER_SUFFIXES)
            raise CharEmbedError(
                f"{source}: no file in this folder ends in {wanted} (or one of these with .gz, .xz, .bz2);"
                " name other text files by a glob"
            )
        if len(found) < len(visible):
            count = len(visible) - len(found)
            what = "1 file" if count == 1 else f"{count} files"
            logger.info("%s: %s of no known suffix left out", source, what)
        return found
    if path.exists():
        return [path]
    matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    files = [match for match in matches if match.is_file()]
    if not files:
        raise CharEmbedError(f"{source}: no such file or folder, and no file matches it as a glob")
    return files


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def format_suffix(path: Path) -> str:
    """The suffix that tells the format: in lower case, that of compression taken off."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


def open_binary(path: Path) -> IO[bytes]:
    """Open a file to read its bytes, unpacked where its name ends in .gz, .xz or .bz2."""
    handle: IO[bytes] = PACKED.get(path.suffix.lower(), open)(path, "rb")
    return handle


def content_digest(part: Path | DatasetName) -> str | None:
    """What changes when the content of a file or data set does; None for a pipe, which only reading would tell.

    Raises:
        OSError: it cannot be read.
        ValueError, MissingExtraError: as in `DatasetName.content_digest`.
    """
    if isinstance(part, DatasetName):
        return part.content_digest()
    return _file_digest(part) if part.is_file() else None


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
