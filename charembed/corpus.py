"""Receives names of files, folders and data sets; hands on their documents, one string each.

In a text file a document is a block of lines ended by a blank line. In JSONL, Parquet and Hugging Face data sets it is
one record's text column.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import json
import logging
import lzma
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from charembed.errors import CharEmbedError, import_extra

logger = logging.getLogger(__name__)

Sources = str | list[str]

DATASET_PREFIX = "dataset:"
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_FOLDER_SUFFIXES = (".txt", ".jsonl", ".parquet")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"


@dataclass
class CorpusConfig:
    """The text to train on."""

    train: Sources
    """Text to train on: a file, a folder (read with its subfolders), a glob such as 'notes/*.txt.gz', or a list of
    these. Text files may end in .gz, .xz or .bz2; .jsonl and .parquet files are read by their text column; anything
    else is UTF-8 text. 'dataset:NAME[,config=C][,split=S]' is a Hugging Face data set, by name or local folder."""
    valid: Sources | None = None
    """Text to validate on, named in the same way; its first 500,000 characters are used. Without it a part of the
    training text is held out."""
    held_out: float = 0.02
    """Share of the training text held out for validation when valid is not given, whole documents where they are short
    enough; at most 500,000 characters."""
    text_column: str = "text"
    """Column that holds the text, in JSONL, Parquet and data sets."""
    errors: Literal["strict", "replace"] = "strict"
    """Bytes that are not UTF-8: 'strict' ends with an error that says where, 'replace' reads each as U+FFFD and counts
    them."""

    def __post_init__(self) -> None:
        if not 0.0 < self.held_out < 1.0:
            raise CharEmbedError(f"held_out must be between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class DatasetName:
    """A Hugging Face data set: `dataset:NAME[,config=C][,split=S]`."""

    name: str
    config: str | None = None
    split: str = "train"

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
        return cls(name, **given)


class Corpus:
    """Documents of one or several sources, in the order of the sources (files of one source by path).

    Iterating reads them anew each time, one at a time.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        text_column: str = "text",
        errors: Literal["strict", "replace"] = "strict",
        exclude: Iterable[Path] = (),
    ) -> None:
        """
        Args:
            sources: as in `CorpusConfig.train`.
            text_column: column that holds the text, in JSONL, Parquet and data sets.
            errors: what to do with bytes that are not UTF-8.
            exclude: files left out, such as those held back for validation.

        Raises:
            CharEmbedError: a source names nothing that can be read.
        """
        self.text_column = text_column
        self.errors = errors
        self.replaced = 0
        """Invalid byte sequences and lone surrogates replaced during the latest pass."""
        self._told = False
        excluded = {path.resolve() for path in exclude}
        self.parts: list[Path | DatasetName] = []
        seen: set[Path] = set()
        for source in [sources] if isinstance(sources, str) else sources:
            if source.startswith(DATASET_PREFIX):
                self.parts.append(DatasetName.parse(source))
                continue
            for path in find_files(source):
                real = path.resolve()
                if real in excluded:
                    logger.info("%s is validation text: left out of the training text", path)
                elif real not in seen:
                    seen.add(real)
                    self.parts.append(path)
        if not self.parts:
            raise CharEmbedError(f"no text to read in {sources!r}")

    @property
    def files(self) -> list[Path]:
        """The local files among the sources."""
        return [part for part in self.parts if isinstance(part, Path)]

    def __iter__(self) -> Iterator[str]:
        """The documents: no blank lines in them, no newline at their end.

        Raises:
            CharEmbedError: a file cannot be read or decoded, or a record has no text.
        """
        self.replaced = 0
        for part in self.parts:
            if isinstance(part, DatasetName):
                yield from self._dataset_records(part)
            elif _suffix(part) == ".parquet":
                yield from self._parquet_records(part)
            elif _suffix(part) == ".jsonl":
                yield from self._jsonl_records(part)
            else:
                yield from self._text_blocks(part)
        if self.replaced and not self._told:
            self._told = True
            logger.warning("%d invalid UTF-8 sequences or lone surrogates were read as U+FFFD", self.replaced)

    def lines(self) -> Iterator[str]:
        """The lines of all documents, blank ones left out."""
        for document in self:
            yield from (line for line in document.split("\n") if line.strip())

    def _text_blocks(self, path: Path) -> Iterator[str]:
        block: list[str] = []
        for _, line in self._decoded_lines(path):
            if line.strip():
                block.append(line)
            elif block:
                yield "\n".join(block)
                block = []
        if block:
            yield "\n".join(block)

    def _jsonl_records(self, path: Path) -> Iterator[str]:
        for number, line in self._decoded_lines(path):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise CharEmbedError(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}")
            self._check_column(record, where)
            yield from self._record_text(record[self.text_column], where)

    def _parquet_records(self, path: Path) -> Iterator[str]:
        parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=f"reading {path}")
        pyarrow = import_extra("pyarrow", extra="parquet", purpose=f"reading {path}")
        try:
            with parquet.ParquetFile(path) as file:
                self._check_column(file.schema_arrow.names, str(path))
                for batch in file.iter_batches(columns=[self.text_column], batch_size=1024):
                    for value in batch.column(0).to_pylist():
                        yield from self._record_text(value, str(path))
        except (OSError, pyarrow.ArrowException) as error:
            raise CharEmbedError(f"{path}: cannot be read: {error}") from error

    def _dataset_records(self, source: DatasetName) -> Iterator[str]:
        datasets = import_extra("datasets", extra="train", purpose=f"reading the data set {source.name}")
        where = f"data set {source.name}"
        try:
            records = _open_dataset(datasets, source)
        # Unknown names, configurations and splits come as ValueError, missing files and refused connections as OSError.
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{where} cannot be opened: {error}") from error
        for record in records:
            self._check_column(record, where)
            yield from self._record_text(record[self.text_column], where)

    def _check_column(self, columns: Iterable[str], where: str) -> None:
        if self.text_column not in columns:
            raise CharEmbedError(f"{where}: no column {self.text_column!r}, there are: {', '.join(sorted(columns))}")

    def _record_text(self, value: object, where: str) -> Iterator[str]:
        if value is None:
            return
        if not isinstance(value, str):
            raise CharEmbedError(f"{where}: column {self.text_column!r} must hold text, got {type(value).__name__}")
        text = "\n".join(line for line in value.replace("\r\n", "\n").split("\n") if line.strip())
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can spell lone surrogates, which are no characters
            if self.errors == "strict":
                raise CharEmbedError(
                    f"{where}: character {error.start} of the text is a lone surrogate: mend it, or read such"
                    " characters as U+FFFD with errors 'replace'"
                ) from error
            replaced = _SURROGATE.sub("\ufffd", text)
            self.replaced += sum(a != b for a, b in zip(text, replaced, strict=True))
            text = replaced
        if text:
            yield text

    def _decoded_lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Line numbers and lines of a UTF-8 file, without their line ends."""
        offset = 0
        number = 0
        try:
            with open_binary(path) as handle:
                for number, raw in enumerate(handle, start=1):
                    yield number, self._decode(raw, path, offset).rstrip("\r\n")
                    offset += len(raw)
        except (OSError, EOFError, lzma.LZMAError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise CharEmbedError(f"{path}: cannot be read: {reason}") from error

    def _decode(self, raw: bytes, path: Path, offset: int) -> str:
        if offset == 0 and raw.startswith(_BOM):
            raw, offset = raw[len(_BOM) :], len(_BOM)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.errors == "replace":
                text = raw.decode("utf-8", "replace")
                self.replaced += text.count("\ufffd") - raw.count("\ufffd".encode())
                return text
            at = offset + error.start
            unpacked = " of the unpacked text" if path.suffix in _OPENERS else ""
            hint = " (it looks like UTF-16)" if at == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            raise CharEmbedError(
                f"{path}: byte {at}{unpacked} (0x{raw[error.start]:02x}) is not UTF-8{hint}: convert the file to UTF-8,"
                " or read such bytes as U+FFFD with errors 'replace'"
            ) from error


def find_files(source: str) -> list[Path]:
    """Files that a source names, sorted by path: a file, a folder with its subfolders, or a glob.

    Raises:
        CharEmbedError: it names no file, or a folder without text files.
    """
    path = Path(source)
    if path.is_dir():
        visible = [p for p in sorted(path.rglob("*")) if p.is_file() and not _is_hidden(p, path)]
        found = [p for p in visible if _suffix(p) in _FOLDER_SUFFIXES]
        if not found:
            wanted = ", ".join(_FOLDER_SUFFIXES)
            raise CharEmbedError(
                f"{source}: no file in this folder ends in {wanted} (or one of these with .gz, .xz, .bz2);"
                " name other text files by a glob"
            )
        if len(found) < len(visible):
            logger.info("%s: %d files left out, their names end in no known suffix", source, len(visible) - len(found))
        return found
    if path.exists():
        return [path]
    matches = sorted(Path(name) for name in glob.glob(source, recursive=True))
    files = [match for match in matches if match.is_file()]
    if not files:
        raise CharEmbedError(f"{source}: no such file or folder, and no file matches it as a glob")
    return files


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _suffix(path: Path) -> str:
    """The suffix that tells the format, compression taken off."""
    return Path(path.stem).suffix if path.suffix in _OPENERS else path.suffix


def open_binary(path: Path) -> IO[bytes]:
    """Open a file to read its bytes, unpacked where its name ends in .gz, .xz or .bz2."""
    handle: IO[bytes] = _OPENERS.get(path.suffix, open)(path, "rb")
    return handle


def _open_dataset(datasets: Any, source: DatasetName) -> Iterable[dict[str, Any]]:
    saved_split = os.path.join(source.name, "state.json")
    saved_dict = os.path.join(source.name, "dataset_dict.json")
    records: Iterable[dict[str, Any]]
    if os.path.exists(saved_split):  # a folder that Dataset.save_to_disk wrote
        records = datasets.load_from_disk(source.name)
    elif os.path.exists(saved_dict):  # … and DatasetDict.save_to_disk
        splits = datasets.load_from_disk(source.name)
        if source.split not in splits:
            raise ValueError(f"no split {source.split!r}, there are: {', '.join(splits)}")
        records = splits[source.split]
    else:
        records = datasets.load_dataset(source.name, source.config, split=source.split, streaming=True)
    return records
