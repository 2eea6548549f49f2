"""Read labelled sentences from files of columns, one word per line and an empty line after each sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.tagging.source_file import DEFAULT_LAYER, SourceFile, SourceSentence, read_lines

# Not str.split: a word may contain other white space, such as a no-break space.
_COLUMN = re.compile(r"[^ \t]+")
_DOCUMENT_START = "-DOCSTART-"
_NEW_DOCUMENT = re.compile(r"#\s*(newdoc\b|begin document\b)")
_CERTAIN_COMMENT = re.compile(r"#\s*[\w.:-]+ = |#(begin|end) document\b|#\s*newdoc\b")


@dataclass(frozen=True)
class Columns:
    """Where words and tags are in files of columns and CoNLL-U; other formats do not need it."""

    token: int = 0
    """Column of the word in files of columns, from 0; negative numbers count from the last column."""
    tags: dict[str, int | str] | None = None
    """Column number of each layer, or in CoNLL-U the name of its field, such as upos. None reads one layer: column 1,
    in CoNLL-U upos."""


def read_columns(path: Path, columns: Columns) -> SourceFile:
    """Read a file of columns.

    Columns are separated by tabs if all lines with words contain one, and by spaces and tabs otherwise. A document
    begins at a `-DOCSTART-` line or a comment `# newdoc`. Lines before a sentence that begin with `#` and are not words
    with tags of this file are comments.

    Raises:
        CharEmbedError: a line has too few columns, or the file cannot be read.
    """
    reader = _ColumnReader(path, columns)
    return SourceFile(list(reader.sentences()))


class _ColumnReader:
    """The lines of one file, and what they have in common."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._token = columns.token
        self._layers: dict[str, int] = {}
        for name, column in ({DEFAULT_LAYER: 1} if columns.tags is None else columns.tags).items():
            if not isinstance(column, int):
                raise CharEmbedError(
                    f"{path} is a file of columns, which have numbers, but layer {name} is column {column!r}: give a"
                    " number, from 0"
                )
            self._layers[name] = column
        # The file is read several times, so that memory holds no more of it than its sentences.
        self._by_tabs = all("\t" in line.rstrip("\t ") for line in self._certain_lines())
        self._widths: Counter[int] = Counter()
        self._known_tags = {name: {"O"} for name in self._layers}
        for row in map(self._split, self._certain_lines()):
            self._widths[len(row)] += 1
            for name, column in self._layers.items():
                if -len(row) <= column < len(row):
                    self._known_tags[name].add(row[column])
        if self._widths.keys() == {1} and len(self._layers) == 1:
            raise CharEmbedError(
                f"{path} has no tags: its lines have one column; expected a word and its tags, separated by a tab or"
                " spaces"
            )

        if columns.tags is None and self._is_prose():
            raise CharEmbedError(
                f"{path} does not look like a labelled file: its lines have from {min(self._widths)} to"
                f" {max(self._widths)} columns, and the second word of each would be read as a tag; expected a word and"
                " its tags on each line, separated by a tab or spaces"
            )

    def _certain_lines(self) -> Iterator[str]:
        """Yield the lines that show what words and tags of this file look like; those with # may be comments."""
        for line in read_lines(self._path):
            if line.strip(" \t") and not line.startswith(("#", _DOCUMENT_START)):
                yield line

    def _is_prose(self) -> bool:
        """Return whether the lines have as many different numbers of columns as lines of prose have words."""
        most_common = max(self._widths.values(), default=0)
        return not self._by_tabs and len(self._widths) >= 3 and 2 * most_common <= self._widths.total()

    def sentences(self) -> Iterator[SourceSentence]:
        words: list[str] = []
        tags: dict[str, list[str | None]] = {name: [] for name in self._layers}
        lines: list[int] = []
        document = 0
        for number, line in enumerate(read_lines(self._path), start=1):
            columns = self._split(line)
            is_comment = not words and line.startswith("#") and self._is_comment(line, columns)
            begins_document = self._begins_document(line, columns, is_comment)
            if columns and not begins_document and not is_comment:
                words.append(self._cell(columns, self._token, "the words", number))
                for name, column in self._layers.items():
                    tags[name].append(self._cell(columns, column, f"layer {name}" if name else "the tags", number))
                lines.append(number)
            elif words:  # an empty line or a new document ends the sentence
                yield SourceSentence(words, tags, document=document, lines=lines)
                words, tags, lines = [], {name: [] for name in self._layers}, []
            document += begins_document
        if words:
            yield SourceSentence(words, tags, document=document, lines=lines)

    def _split(self, line: str) -> list[str]:
        if not self._by_tabs:
            return _COLUMN.findall(line)
        line = line.rstrip("\t ")
        return [column.strip(" ") for column in line.split("\t")] if line else []

    def _begins_document(self, line: str, columns: list[str], is_comment: bool) -> bool:
        if is_comment:
            return _NEW_DOCUMENT.match(line) is not None
        # The word is in another column where lines are numbered.
        in_range = -len(columns) <= self._token < len(columns)
        return line.startswith(_DOCUMENT_START) or (in_range and columns[self._token] == _DOCUMENT_START)

    def _is_comment(self, line: str, columns: list[str]) -> bool:
        """Return whether a line before a sentence that begins with # is a comment, not a word such as #Malta or #."""
        if _CERTAIN_COMMENT.match(line) or len(columns) not in self._widths:
            return True
        if columns[0] != "#":
            return False
        return any(
            not -len(columns) <= column < len(columns) or columns[column] not in self._known_tags[name]
            for name, column in self._layers.items()
        )

    def _cell(self, columns: list[str], column: int, content: str, number: int) -> str:
        try:
            cell = columns[column]
        except IndexError as error:
            count = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
            raise CharEmbedError(
                f"{self._path}, line {number} has {count}, but {content} should be in column {column}, counted from 0:"
                " correct the line or the number of the column"
            ) from error
        if not cell:
            raise CharEmbedError(f"{self._path}, line {number}: column {column}, {content}, is empty: correct the line")
        return cell
