"""Read the lines of text files and the records of JSONL, Parquet and Hugging Face data sets as numbered texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from charembed.errors import CharEmbedError, import_extra
from charembed.text.opening import File, format_suffix, is_compressed, open_binary, read_errors
from charembed.text.sources import JSONL_SUFFIXES, PARQUET_SUFFIX, DatasetName, Source

DecodingErrors = Literal["strict", "replace"]
NumberedTexts = Iterator[tuple[int, str]]
"""Pairs of a line or record number, from 1, and its text."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PARQUET_ROWS = 1024
"""Rows of a Parquet file that are in memory at a time."""


def holds_records(source: Source) -> bool:
    """Return whether a source holds records with a text column; otherwise it is a text file."""
    return isinstance(source, DatasetName) or format_suffix(source) in (*JSONL_SUFFIXES, PARQUET_SUFFIX)


class TextReader:
    """Reads sources of every format, and counts what it replaces because it is not valid text."""

    def __init__(self, text_column: str, errors: DecodingErrors) -> None:
        """
        Args:
            text_column: column of a record that holds the text.
            errors: "strict" to raise an error at bytes that are not UTF-8 and at lone surrogates, "replace" to read
                each as U+FFFD.
        """
        self._text_column = text_column
        self._errors = errors
        self.replaced = 0
        """Number of invalid byte sequences and lone surrogates that were replaced."""

    def read(self, source: Source) -> NumberedTexts:
        """Yield the lines of a text file without their line ends, or the texts of records, with their numbers.

        Raises:
            CharEmbedError: the source cannot be read or decoded, or a record has no text column.
            MissingExtraError: a package that reads this format is not installed.
        """
        if isinstance(source, DatasetName):
            return self._read_dataset(source)
        suffix = format_suffix(source)
        if suffix == PARQUET_SUFFIX:
            return self._read_parquet(source)
        if suffix in JSONL_SUFFIXES:
            return self._read_jsonl(source)
        return self._read_lines(source)

    def _read_lines(self, file: File) -> NumberedTexts:
        name = f"{file} (decompressed)" if is_compressed(file) else str(file)
        offset = 0
        with read_errors(file), open_binary(file) as content:
            for number, line in enumerate(content, start=1):
                # Errors name the byte of the file, so the byte order mark counts although it is not text.
                start = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
                yield number, self._decode(line[start:], name, offset + start).rstrip("\r\n")
                offset += len(line)

    def _read_jsonl(self, file: File) -> NumberedTexts:
        for number, line in self._read_lines(file):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CharEmbedError(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}")
            yield number, self._record_text(record, where)

    def _read_parquet(self, file: File) -> NumberedTexts:
        arrow = import_extra("pyarrow", extra="parquet", purpose=f"reading {file}")
        parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=f"reading {file}")
        number = 0
        try:
            with read_errors(file), ExitStack() as stack:
                # PyArrow opens local files faster by their paths.
                content = file if isinstance(file, Path) else stack.enter_context(open_binary(file))
                table = stack.enter_context(parquet.ParquetFile(content))
                self._check_parquet_column(arrow, table.schema_arrow, str(file))
                for batch in table.iter_batches(columns=[self._text_column], batch_size=_PARQUET_ROWS):
                    column = batch.column(0)
                    if isinstance(column, arrow.DictionaryArray):
                        column = column.dictionary_decode()
                    # As bytes: Parquet does not promise that its strings are UTF-8.
                    for value in column.cast(arrow.large_binary()).to_pylist():
                        number += 1
                        yield number, self._decode(value or b"", f"{file}, row {number}", 0)
        except arrow.ArrowException as error:
            raise CharEmbedError(f"{file}: cannot be read: {error}") from error

    def _check_parquet_column(self, arrow: Any, schema: Any, name: str) -> None:
        self._check_column(schema.names, name)
        if schema.names.count(self._text_column) > 1:
            raise CharEmbedError(f"{name}: there are several columns {self._text_column!r}")
        kind = schema.field(self._text_column).type
        kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
        if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
            raise CharEmbedError(f"{name}: column {self._text_column!r} must hold text, got {kind}")

    def _read_dataset(self, dataset: DatasetName) -> NumberedTexts:
        try:
            for number, record in enumerate(dataset.open(), start=1):
                yield number, self._record_text(record, f"{dataset}, record {number}")
        except CharEmbedError:
            raise
        # `datasets` raises ValueError for unknown names and damaged files, OSError for the network.
        except (ValueError, OSError) as error:
            raise CharEmbedError(f"{dataset} cannot be read: {error}") from error

    def _check_column(self, columns: Iterable[str], where: str) -> None:
        if self._text_column not in columns:
            raise CharEmbedError(f"{where}: no column {self._text_column!r}, there are: {', '.join(sorted(columns))}")

    def _record_text(self, record: dict[str, Any], where: str) -> str:
        self._check_column(record, where)
        value = record[self._text_column]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise CharEmbedError(f"{where}: column {self._text_column!r} must hold text, got {type(value).__name__}")
        # JSON can spell lone surrogates, which are not characters and cannot be stored as UTF-8.
        surrogate = _SURROGATE.search(value)
        if surrogate is None:
            return value
        if self._errors == "strict":
            raise CharEmbedError(
                f"{where}: character {surrogate.start()} of the text is a lone surrogate: correct it, or use errors"
                " 'replace' to read it as U+FFFD"
            )
        text, count = _SURROGATE.subn("\ufffd", value)
        self.replaced += count
        return text

    def _decode(self, raw: bytes, name: str, offset: int) -> str:
        """Decode bytes that begin at an offset of the file."""
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if self._errors == "replace":
                text = raw.decode("utf-8", "replace")
                # U+FFFD that the file itself holds is not a replacement.
                self.replaced += text.count("\ufffd") - raw.count("\ufffd".encode())
                return text
            position = offset + error.start
            hint = " (it looks like UTF-16)" if position == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            raise CharEmbedError(
                f"{name}: byte {position} (0x{raw[error.start]:02x}) is not UTF-8{hint}: convert the file to UTF-8, or"
                " use errors 'replace' to read invalid bytes as U+FFFD"
            ) from error
