"""Read labelled sentences from CoNLL-U."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conllu.exceptions import ParseException
from conllu.parser import parse_token_and_metadata

from charembed.errors import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.source_file import DEFAULT_LAYER, SourceFile, SourceSentence, read_lines
from charembed.text.words import SpannedText

FIELDS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Fields of CoNLL-U, in the order of their columns."""
_PLUS_FIELDS = re.compile(r"#\s*global\.columns\s*=(?P<names>.+)")
"""First line of a file in CoNLL-U Plus."""
_MISSING = ("upos", "xpos", "deprel")
"""Fields whose value `_` says that the word has no tag; in others, such as feats, it is a value like any other."""


def is_treebank(path: str | Path) -> bool:
    """Return whether the name of a file says that it is CoNLL-U."""
    return not {".conllu", ".conllup"}.isdisjoint(Path(str(path).lower()).suffixes)


def read_treebank(path: Path, columns: Columns) -> SourceFile:
    """Read a file in CoNLL-U or CoNLL-U Plus. Multi-word tokens and empty nodes are left out.

    A document begins at a `newdoc` comment.

    Raises:
        CharEmbedError: a line is not CoNLL-U, a field does not exist, or the file cannot be read.
    """
    lines = read_lines(path)
    # Not by the package conllu, whose versions have different functions for this line.
    first = next(lines, "")
    plus = _PLUS_FIELDS.fullmatch(first)
    fields = plus["names"].lower().split() if plus else FIELDS
    layers = _layer_fields(columns, fields, path)
    parser = _BlockParser(path, fields)

    sentences = []
    document = 0
    # Sentences are separated by empty lines.
    numbered = enumerate(itertools.chain([first], lines), start=1)
    for is_empty, block in itertools.groupby(numbered, key=lambda pair: not pair[1].strip()):
        if is_empty:
            continue
        rows, numbers, metadata = parser.parse(list(block))
        document += any(key.startswith("newdoc") for key in metadata)
        if rows:
            words = [_value(row, "form", path, number) for row, number in zip(rows, numbers, strict=True)]
            tags = {
                name: [_tag(row, field, path, number) for row, number in zip(rows, numbers, strict=True)]
                for name, field in layers.items()
            }
            sentences.append(SourceSentence(words, tags, _align(words, metadata.get("text") or ""), document, numbers))
    return SourceFile(sentences)


class _BlockParser:
    """Parses the lines of one sentence at a time by the package conllu."""

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self._path = path
        self._fields = fields
        # Values as they are written, except for the id, which tells words from multi-word tokens and empty nodes.
        self._parsers = {field: lambda columns, i: columns[i] for field in fields if field != "id"}

    def parse(self, block: list[tuple[int, str]]) -> tuple[list[dict[str, Any]], list[int], dict[str, str]]:
        """Return the words of a sentence, their lines and the values of its comments."""
        try:
            tokens = self._parse("\n".join(line for _, line in block))
        except ParseException as error:
            number, reason = next(self._errors(block))
            raise CharEmbedError(f"{self._path}, line {number} is not CoNLL-U: {reason}") from error
        numbers = [number for number, line in block if not line.strip().startswith("#")]
        rows, row_numbers = [], []
        for row, number in zip(tokens, numbers, strict=True):
            if row.get("id") is None:
                raise CharEmbedError(f"{self._path}, line {number} is not CoNLL-U: the word has no id")
            if isinstance(row["id"], int):  # the ids of multi-word tokens (2-3) and empty nodes (3.1) are tuples
                rows.append(row)
                row_numbers.append(number)
        return rows, row_numbers, tokens.metadata

    def _parse(self, text: str) -> Any:
        return parse_token_and_metadata(text, fields=self._fields, field_parsers=self._parsers)

    def _errors(self, block: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        for number, line in block:
            try:
                self._parse(line)
            except ParseException as error:
                yield number, str(error)


def _layer_fields(columns: Columns, fields: Sequence[str], path: Path) -> dict[str, str]:
    """Return the field of each layer."""
    layers = {}
    for name, field in ({DEFAULT_LAYER: "upos"} if columns.tags is None else columns.tags).items():
        if isinstance(field, int) and -len(fields) <= field < len(fields):
            field = fields[field]
        if field not in fields:
            raise CharEmbedError(f"{path} has no field {field!r} for layer {name}: choose from {', '.join(fields)}")
        layers[name] = str(field)
    return layers


def _value(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    if field not in row:
        raise CharEmbedError(
            f"{path}, line {number} is not CoNLL-U: it has {len(row)} columns, and {field} is not among them"
        )
    return str(row[field])


def _tag(row: dict[str, Any], field: str, path: Path, number: int) -> str | None:
    value = _value(row, field, path, number)
    return None if value == "_" and field in _MISSING else value


def _align(words: list[str], text: str) -> SpannedText | None:
    """Return the text with the spans of the words; None if a word is not in it, such as a part of a contraction."""
    spans = []
    end = 0
    for word in words:
        start = text.find(word, end)
        if start < 0 or text[end:start].strip():  # only white space may lie between words
            return None
        end = start + len(word)
        spans.append((start, end))
    return SpannedText.of((text, spans))
