"""Read the records of JSON, JSONL, CSV, TSV, Parquet and Hugging Face data sets, and the lines of text files, as
numbered texts."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.text.json_values import JsonValues
from charembed.text.lines import DecodingErrors, LineReader, NumberedTexts, check_text_size, max_text_bytes
from charembed.text.opening import (
    JSON_SUFFIX,
    JSONL_SUFFIXES,
    PARQUET_SUFFIX,
    TABLE_SUFFIXES,
    File,
    StandardInput,
    format_suffix,
    open_binary,
    read_errors,
)
from charembed.text.record_shapes import HEAD_CHARACTERS, may_hold_records, suffix_of_records
from charembed.text.sources import DatasetName, Source

_SURROGATE = re.compile("[\ud800-\udfff]")
_PARQUET_ROWS = 1024
"""Rows of a Parquet file that are in memory at a time."""


RECORD_SUFFIXES = (*JSONL_SUFFIXES, JSON_SUFFIX, *TABLE_SUFFIXES, PARQUET_SUFFIX)
"""How the names of files with records end."""


def holds_records(source: Source) -> bool:
    """Return whether a source holds records with a text column; otherwise it is a text file."""
    return isinstance(source, DatasetName) or format_suffix(source) in RECORD_SUFFIXES


class TextReader:
    """Reads sources of every format, and counts what it replaces because it is not valid text."""

    def __init__(self, text_column: str, errors: DecodingErrors, max_text_mb: int) -> None:
        """
        Args:
            text_column: column of a record that holds the text.
            errors: "strict" to raise an error at bytes that are not UTF-8, at null bytes and at lone surrogates,
                "replace" to read each as U+FFFD.
            max_text_mb: largest size of a line or record, in megabytes.

        Raises:
            CharEmbedError: the size is below 1 MB.
        """
        self._text_column = text_column
        self._errors = errors
        self._max_bytes = max_text_bytes(max_text_mb)
        self._lines = LineReader(errors, self._max_bytes)
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """Number of invalid byte sequences, null bytes and lone surrogates that were replaced."""
        return self._replaced + self._lines.replaced

    def read(self, source: Source) -> NumberedTexts:
        """Yield the lines of a text file without their line ends, or the texts of records, with their numbers.

        Raises:
            CharEmbedError: the source cannot be read or decoded, a line or record is too long, or a record has no text
                column.
            MissingExtraError: a package that reads this format is not installed.
        """
        if isinstance(source, DatasetName):
            return self._read_dataset(source)
        suffix = format_suffix(source)
        if suffix == PARQUET_SUFFIX:
            return self._read_parquet(source)
        if suffix in JSONL_SUFFIXES:
            return self._read_jsonl(source)
        if suffix == JSON_SUFFIX:
            return self._read_json(source)
        if suffix in TABLE_SUFFIXES:
            return self._read_table(source, TABLE_SUFFIXES[suffix])
        return self._read_text(source)

    def _read_text(self, file: File) -> NumberedTexts:
        lines = self._lines.read(file)
        # Only lines that are blank or suspicious are waited for: a pipe may be slow.
        head = []
        for number, line in lines:
            head.append((number, line))
            if line.strip():
                if may_hold_records(line, self._text_column):
                    self._refuse_records(file, head, lines)
                break
        return itertools.chain(head, lines)

    def _refuse_records(self, file: File, head: list[tuple[int, str]], lines: NumberedTexts) -> None:
        """Refuse a text file with records, whose first lines are read into `head`."""
        first, size = head[-1], 0
        while size < HEAD_CHARACTERS and (numbered := next(lines, None)) is not None:
            head.append(numbered)
            size += len(numbered[1]) + 1
        text = "\n".join(line for _, line in head)
        suffix = suffix_of_records(text, self._text_column, is_whole=size < HEAD_CHARACTERS)
        if suffix is not None:
            what = "a table" if suffix in TABLE_SUFFIXES else "JSON"
            remedy = "write it to a file that ends" if isinstance(file, StandardInput) else "rename it to end"
            raise CharEmbedError(
                f"{file}, line {first[0]}: {what}, in a file that is not named like one with records: {remedy} in"
                f" {suffix}; text_column names the column with the text"
            )

    def _read_jsonl(self, file: File) -> NumberedTexts:
        for number, line in self._lines.read(file):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            hint = f": rename a file with one array or object to end in {JSON_SUFFIX}" if line[0] in "[{" else ""
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CharEmbedError(f"{where}: not JSON: {error}{hint if number == 1 else ''}") from error
            if not isinstance(record, dict):
                raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}{hint}")
            yield number, self._record_text(record, where)

    def _read_json(self, file: File) -> NumberedTexts:
        values = JsonValues(self._lines.pieces(file), self._max_bytes, str(file), ", or raise max_text_mb")
        for number, (where, record) in enumerate(values, start=1):
            if not isinstance(record, dict):
                raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}")
            yield number, self._record_text(record, where)

    def _read_table(self, file: File, delimiters: str) -> NumberedTexts:
        # The limit of the module `csv` is one for the process, and lower than that of this reader.
        csv.field_size_limit(max(csv.field_size_limit(), self._max_bytes))
        lines = itertools.dropwhile(str.isspace, (line + "\n" for _, line in self._lines.read(file)))
        first = next(lines, None)
        if first is None:
            return
        # Programs for tables separate columns by semicolons in some countries: look for what gives the column.
        fits = (d for d in delimiters if self._text_column in next(_rows([first], d, file))[1])
        delimiter = next(fits, max(delimiters, key=first.count))
        rows = _rows(itertools.chain([first], lines), delimiter, file)
        _, columns = next(rows)
        self._check_column(columns, f"{file}, line 1")
        self._check_single_column(columns, f"{file}, line 1")
        position = columns.index(self._text_column)
        for number, (line, row) in enumerate(filter(itemgetter(1), rows), start=1):
            where = f"{file}, line {line}"
            if len(row) != len(columns):
                raise CharEmbedError(f"{where}: {len(row)} columns, but the first line names {len(columns)}")
            check_text_size(len(row[position]), self._max_bytes, where)
            yield number, row[position]

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
                        yield number, self._decode(value or b"", f"{file}, row {number}")
        except arrow.ArrowException as error:
            raise CharEmbedError(f"{file}: cannot be read: {error}") from error

    def _check_parquet_column(self, arrow: Any, schema: Any, name: str) -> None:
        self._check_column(schema.names, name)
        self._check_single_column(schema.names, name)
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
            raise CharEmbedError(
                f"{where}: no column {self._text_column!r}, there are: {', '.join(sorted(columns))}; name one as"
                " text_column"
            )

    def _check_single_column(self, columns: list[str], where: str) -> None:
        if columns.count(self._text_column) > 1:
            raise CharEmbedError(f"{where}: there are several columns {self._text_column!r}")

    def _record_text(self, record: dict[str, Any], where: str) -> str:
        self._check_column(record, where)
        value = record[self._text_column]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise CharEmbedError(f"{where}: column {self._text_column!r} must hold text, got {type(value).__name__}")
        check_text_size(len(value), self._max_bytes, where)
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
        self._replaced += count
        return text

    def _decode(self, raw: bytes, where: str) -> str:
        check_text_size(len(raw), self._max_bytes, where)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if self._errors == "replace":
                text = raw.decode("utf-8", "replace")
                # U+FFFD that the file itself holds is not a replacement.
                self._replaced += text.count("\ufffd") - raw.count("\ufffd".encode())
                return text
            raise CharEmbedError(
                f"{where}: byte {error.start} (0x{raw[error.start]:02x}) is not UTF-8: correct it, or use errors"
                " 'replace' to read invalid bytes as U+FFFD"
            ) from error


def _rows(lines: Iterable[str], delimiter: str, file: File) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table with the numbers of the lines at which they end.

    Raises:
        CharEmbedError: a row has an error of syntax, such as a quotation mark without an end.
    """
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise CharEmbedError(f"{file}, line {rows.line_num}: not a table with columns: {error}") from error
