"""Recognize JSON and tables in files that are named like text: a model would learn to write them."""

from __future__ import annotations

import csv
import json
import re

from charembed.text.opening import JSON_SUFFIX, JSONL_SUFFIXES, TABLE_SUFFIXES

HEAD_CHARACTERS = 1 << 16
"""Characters that are enough to tell."""
_COLUMN = re.compile(r"[A-Za-z_][\w.-]{0,29}")
_TEXT_COLUMNS = ("text", "sentence", "content")
_MIN_ROWS = 3
"""Rows of a table, its header included, without which it may be anything."""


def may_hold_records(line: str, text_column: str) -> bool:
    """Return whether a file may be JSON or a table, judged by its first line that is not blank."""
    return line.lstrip().startswith(("{", "[")) or _header(line, text_column) is not None


def suffix_of_records(head: str, text_column: str, *, is_whole: bool) -> str | None:
    """Return how the name of a file should end because it is certainly JSON or a table; None if it may be text.

    Args:
        head: whole lines from the beginning of the file, at least `HEAD_CHARACTERS` if it has as many.
        text_column: column that holds the text.
        is_whole: whether these are all lines of the file.
    """
    head = head.strip()
    if head.startswith(("{", "[")):
        return _json_suffix(head, is_whole=is_whole)
    return _table_suffix(head, text_column, is_whole=is_whole)


def _json_suffix(head: str, *, is_whole: bool) -> str | None:
    if head.startswith("[") and not head[1:].lstrip().startswith("{"):
        return None
    value, end = _parse(head, is_whole=is_whole)
    if value is None:
        return None
    rest = head[end:].lstrip()
    if isinstance(value, list):
        is_array = bool(value) and all(isinstance(item, dict) for item in value)
        return JSON_SUFFIX if is_array and not rest else None
    # After a record comes the end or the next record; after an example at the start of a text come words.
    if rest and (not rest.startswith("{") or _parse(rest, is_whole=is_whole)[0] is None):
        return None
    return JSON_SUFFIX if "\n" in head[:end] else JSONL_SUFFIXES[0]


def _parse(text: str, *, is_whole: bool) -> tuple[dict[str, object] | list[object] | None, int]:
    """Return the value at the beginning of a text and its end; None if there is none, or it is empty.

    If the text goes on, a value that it cuts off counts too, with what it is and without its content.
    """
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        if is_whole or error.pos < len(text):
            return None, 0
        return ({"": None} if text.startswith("{") else [{}]), len(text)
    except (ValueError, RecursionError):  # too many digits, or too many brackets
        return None, 0
    return (value or None), end


def _header(line: str, text_column: str) -> tuple[str, list[str]] | None:
    """Return the delimiter and the columns of a line that is the header of a table; None if it may be text."""
    for delimiter in TABLE_SUFFIXES[".csv"]:
        columns = [column.strip('"') for column in line.strip().split(delimiter)]
        names = {column.lower() for column in columns}
        if (
            len(names) == len(columns) >= 2
            and all(map(_COLUMN.fullmatch, columns))
            and not names.isdisjoint({*_TEXT_COLUMNS, text_column.lower()})
        ):
            return delimiter, columns
    return None


def _table_suffix(head: str, text_column: str, *, is_whole: bool) -> str | None:
    header = _header(head.partition("\n")[0], text_column)
    if header is None:
        return None
    delimiter, columns = header
    rows = []
    try:
        for row in csv.reader((f"{line}\n" for line in head.split("\n")), delimiter=delimiter, strict=True):
            rows.append(row)
    except csv.Error:
        # A row may be cut off at the end of the head.
        if is_whole:
            return None
    rows = [row for row in rows if row]
    if len(rows) < _MIN_ROWS or any(len(row) != len(columns) for row in rows):
        return None
    return ".tsv" if delimiter == "\t" else ".csv"
