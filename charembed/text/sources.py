"""Find the files and data sets that a user's names stand for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.text.folders import find_files, find_remote_files
from charembed.text.lines import read_head
from charembed.text.opening import PARQUET_SUFFIX, File, StandardInput, format_suffix, open_raw, read_errors
from charembed.util.files import user_path
from charembed.util.shared_folder import is_address

DATASET_PREFIX = "dataset:"
STANDARD_INPUT = "-"
"""Name of the standard input."""


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
            # The same digest on Windows, whose paths have other separators and another order.
            files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
            return _digest_lines(
                f"{name.as_posix()} {_file_digest(files[name])}" for name in sorted(files, key=lambda name: name.parts)
            )
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
        name: a data set (`dataset:…`), an address (with `://`) as in `find_remote_files`, `-` for the standard input,
            or a file, folder or glob as in `find_files`.

    Raises:
        CharEmbedError: the name stands for nothing that can be read.
    """
    if name.startswith(DATASET_PREFIX):
        return [DatasetName.parse(name)]
    if is_address(name):
        return [*find_remote_files(name)]
    if name == STANDARD_INPUT:
        return [StandardInput()]
    return [*find_files(name)]


def content_digest(source: Source) -> str | None:
    """Return a digest that changes with the content of a source.

    Returns:
        The digest, or None for a pipe, which can be read only once.

    Raises:
        CharEmbedError: the source cannot be read, or its beginning shows that it is not text.
        MissingExtraError: `datasets` or a package that decompresses the source is not installed.
    """
    if isinstance(source, DatasetName):
        try:
            return f"{source.split or 'train'} {source.content_digest()}"
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{source} cannot be read: {error}") from error
    if isinstance(source, StandardInput) or (isinstance(source, Path) and not source.is_file()):
        return None
    # What is not text is refused before all of it is read, which may be a hole of many gigabytes.
    if isinstance(source, Path) and format_suffix(source) != PARQUET_SUFFIX:
        read_head(source)
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
