"""Receives names of files, folders and data sets; hands on their documents for training, their texts for embedding.

In a text file a document is a block of lines ended by a blank line, a text is a line. In JSONL, Parquet and Hugging
Face data sets both are one record's text column.
"""

from __future__ import annotations

import json
import logging
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from charembed.errors import CharEmbedError, import_extra
from charembed.text.sources import (
    DATASET_PREFIX,
    JSONL_SUFFIXES,
    PACKED,
    DatasetName,
    content_digest,
    find_files,
    format_suffix,
    open_binary,
)
from charembed.util.files import escape_undecodable, user_path

logger = logging.getLogger(__name__)

SourceNames = str | list[str]
Source = Path | DatasetName

MAX_BLOCK = 1_000_000
"""Characters after which a block of lines ends without a blank line: files without any take bounded memory."""
DOCUMENT_END = "\n\n"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"


@dataclass
class CorpusConfig:
    """The text to train on."""

    train: SourceNames
    """Text to train on: a file, a folder (read with its subfolders), a glob such as 'notes/*.txt.gz', or a list of
    these, '[a.txt, b.txt]'. Files may end in .gz, .xz or .bz2. Those in .jsonl, .ndjson and .parquet are read by their
    text column, a record a document; anything else is UTF-8 text, a document ended by a blank line.
    'dataset:NAME[,config=C][,split=S]' is a Hugging Face data set, by name or local folder."""
    valid: SourceNames | None = None
    """Text to validate on, named in the same way; its first 500,000 characters are used. Without it a part of the
    training text is held out."""
    held_out: float = 0.02
    """Share of the training text held out for validation when valid is not given, whole documents where they are short
    enough; at most 500,000 characters."""
    streaming: bool = False
    """For text that never ends or does not fit the disk: read it from first to last, 10 million characters at a time,
    which are shuffled, trained on once and dropped. Vocabulary and held-out text come from the first of these."""
    cache: str | None = None
    """Folder for the encoded text, 2 bytes a character, which runs may share; the output folder by default."""
    text_column: str = "text"
    """Column that holds the text, in JSONL, Parquet and data sets."""
    errors: Literal["strict", "replace"] = "strict"
    """Bytes that are not UTF-8: 'strict' ends with an error that says where, 'replace' reads each as U+FFFD and counts
    them."""

    def __post_init__(self) -> None:
        self.train = _as_names(self.train)
        self.valid = None if self.valid is None else _as_names(self.valid)
        self.cache = None if self.cache is None else os.fspath(user_path(self.cache))
        if not 0.0 < self.held_out < 1.0:
            raise CharEmbedError(f"held_out must be between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class SourceText:
    """One text, and where it stands."""

    source: str
    """File or data set."""
    number: int
    """Line of the file, or number of the record, from 1."""
    text: str
    """As it stands there, without the line end."""
    begins_document: bool = True
    """Whether it does not go on with the text before it: after a blank line, in another file, in a record."""


class Corpus:
    """Documents or texts of one or several sources, in the order of the sources (files of one source by path).

    Iterating reads them anew each time, one at a time.
    """

    def __init__(
        self,
        sources: str | os.PathLike[str] | list[str],
        *,
        text_column: str = "text",
        errors: Literal["strict", "replace"] = "strict",
        exclude: Iterable[Source] = (),
    ) -> None:
        """
        Args:
            sources: as in `CorpusConfig.train`.
            text_column: column that holds the text, in JSONL, Parquet and data sets.
            errors: what to do with bytes that are not UTF-8.
            exclude: files and data sets left out, such as those held back for validation.

        Raises:
            CharEmbedError: a source names nothing that can be read.
        """
        self.text_column = text_column
        self.errors = errors
        self.replaced = 0
        """Invalid byte sequences and lone surrogates replaced during the latest pass."""
        self._told = False
        self.sources: list[Source] = []
        excluded = {_identity(source) for source in exclude}
        seen: set[Source] = set()
        names = _as_names(sources)
        for name in [names] if isinstance(names, str) else names:
            is_dataset = name.startswith(DATASET_PREFIX)
            for source in [DatasetName.parse(name)] if is_dataset else find_files(name):
                if _identity(source) in excluded:
                    logger.info("%s is validation text: left out of the training text", source)
                elif _identity(source) not in seen:
                    seen.add(_identity(source))
                    self.sources.append(source)
        if not self.sources:
            raise CharEmbedError(f"no text to read in {names!r}")

    def __iter__(self) -> Iterator[str]:
        """The documents: no blank lines in them, no newline at their end.

        Raises:
            CharEmbedError: a file cannot be read or decoded, or a record has no text.
        """
        self.replaced = 0
        for source in self.sources:
            if self._holds_records(source):
                documents = ("\n".join(_full_lines(text)) for _, text in self._numbered(source))
                yield from (document for document in documents if document)
            else:
                yield from _blocks(line for _, line in self._numbered(source))
        self._tell()

    def texts(self) -> Iterator[SourceText]:
        """The texts, blank ones left out: a line each of text files, a record each of others.

        Raises:
            CharEmbedError: a file cannot be read or decoded, or a record has no text.
        """
        self.replaced = 0
        for source in self.sources:
            begins_document = True
            for number, text in self._numbered(source):
                if text and not text.isspace():
                    yield SourceText(escape_undecodable(str(source)), number, text, begins_document)
                begins_document = self._holds_records(source) or not text or text.isspace()
        self._tell()

    def digests(self) -> list[str | None]:
        """For each source what changes when its content does, without reading it as text; None for a pipe.

        Raises:
            CharEmbedError: a source cannot be read.
        """
        return [self._digest(source) for source in self.sources]

    def _digest(self, source: Source) -> str | None:
        try:
            digest = content_digest(source)
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{source} cannot be read: {error}") from error
        if digest is None:
            return None
        return f"{source.split or 'train' if isinstance(source, DatasetName) else format_suffix(source)} {digest}"

    def _tell(self) -> None:
        if self.replaced and not self._told:
            self._told = True
            logger.warning("%d invalid UTF-8 sequences or lone surrogates were read as U+FFFD", self.replaced)

    def _holds_records(self, source: Source) -> bool:
        return isinstance(source, DatasetName) or format_suffix(source) in (*JSONL_SUFFIXES, ".parquet")

    def _numbered(self, source: Source) -> Iterator[tuple[int, str]]:
        """Lines of a text file or texts of records as they stand there, numbered from 1."""
        if isinstance(source, DatasetName):
            return self._dataset_records(source)
        if format_suffix(source) == ".parquet":
            return self._parquet_records(source)
        if format_suffix(source) in JSONL_SUFFIXES:
            return self._jsonl_records(source)
        return self._decoded_lines(source)

    def _jsonl_records(self, path: Path) -> Iterator[tuple[int, str]]:
        for number, line in self._decoded_lines(path):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CharEmbedError(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}")
            yield number, self._record_text(record, where)

    def _parquet_records(self, path: Path) -> Iterator[tuple[int, str]]:
        arrow = import_extra("pyarrow", extra="parquet", purpose=f"reading {path}")
        parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=f"reading {path}")
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                self._check_column(names, str(path))
                if names.count(self.text_column) > 1:
                    raise CharEmbedError(f"{path}: there are several columns {self.text_column!r}")
                kind = file.schema_arrow.field(self.text_column).type
                kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
                if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
                    raise CharEmbedError(f"{path}: column {self.text_column!r} must hold text, got {kind}")
                for batch in file.iter_batches(columns=[self.text_column], batch_size=1024):
                    column = batch.column(0)
                    if isinstance(column, arrow.DictionaryArray):
                        column = column.dictionary_decode()
                    # As bytes: Parquet does not promise that its strings are UTF-8.
                    for raw in column.cast(arrow.large_binary()).to_pylist():
                        number += 1
                        yield number, self._decode(raw or b"", f"{path}, row {number}", 0)
        except (OSError, arrow.ArrowException) as error:
            raise CharEmbedError(f"{path}: cannot be read: {error}") from error

    def _dataset_records(self, source: DatasetName) -> Iterator[tuple[int, str]]:
        try:
            for number, record in enumerate(source.open(), start=1):
                yield number, self._record_text(record, f"{source}, record {number}")
        except CharEmbedError:
            raise
        # Unknown names, configurations and splits and broken files come as ValueError, the network's as OSError.
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{source} cannot be read: {error}") from error

    def _check_column(self, columns: Iterable[str], where: str) -> None:
        if self.text_column not in columns:
            raise CharEmbedError(f"{where}: no column {self.text_column!r}, there are: {', '.join(sorted(columns))}")

    def _record_text(self, record: dict[str, Any], where: str) -> str:
        self._check_column(record, where)
        value = record[self.text_column]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise CharEmbedError(f"{where}: column {self.text_column!r} must hold text, got {type(value).__name__}")
        found = _SURROGATE.search(value)  # JSON can spell lone surrogates, which are no characters
        if found is None:
            return value
        if self.errors == "strict":
            raise CharEmbedError(
                f"{where}: character {found.start()} of the text is a lone surrogate: repair it, or read such"
                " characters as U+FFFD with errors 'replace'"
            )
        text, count = _SURROGATE.subn("\ufffd", value)
        self.replaced += count
        return text

    def _decoded_lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Line numbers and lines of a UTF-8 file, without their line ends."""
        name = f"{path} (unpacked)" if path.suffix.lower() in PACKED else str(path)
        offset = 0
        try:
            with open_binary(path) as handle:
                for number, raw in enumerate(handle, start=1):
                    start = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
                    yield number, self._decode(raw[start:], name, offset + start).rstrip("\r\n")
                    offset += len(raw)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise CharEmbedError(f"{path}: cannot be read: {reason}") from error

    def _decode(self, raw: bytes, name: str, offset: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.errors == "replace":
                text = raw.decode("utf-8", "replace")
                self.replaced += text.count("\ufffd") - raw.count("\ufffd".encode())
                return text
            at = offset + error.start
            hint = " (it looks like UTF-16)" if at == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            raise CharEmbedError(
                f"{name}: byte {at} (0x{raw[error.start]:02x}) is not UTF-8{hint}: convert the file to UTF-8, or read"
                " such bytes as U+FFFD with errors 'replace'"
            ) from error


def _as_names(sources: str | os.PathLike[str] | list[str]) -> SourceNames:
    if isinstance(sources, (str, os.PathLike)):
        return os.fspath(sources)
    return [os.fspath(source) for source in sources]


def _identity(source: Source) -> Source:
    return source.resolve() if isinstance(source, Path) else source


def _full_lines(text: str) -> list[str]:
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    size = 0
    for line in lines:
        if line.strip():
            block.append(line)
            size += len(line)
        if block and (size >= MAX_BLOCK or not line.strip()):
            yield "\n".join(block)
            block, size = [], 0
    if block:
        yield "\n".join(block)


def document_texts(corpus: Corpus) -> Iterator[str]:
    """The stream in pieces, one a document."""
    return (text + DOCUMENT_END for text in corpus)


def take_characters(size: int, pieces: Iterable[str]) -> Iterator[str]:
    """The first pieces, until they make so many characters."""
    for piece in pieces:
        yield piece
        size -= len(piece)
        if size <= 0:
            return
