"""Hold the sentences of a labelled file as they are written, with the numbers of their lines, and decode its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from charembed.tagging.tag_schemes import LayerKind
from charembed.text.lines import DEFAULT_MAX_TEXT_MB, LineReader, max_text_bytes
from charembed.text.opening import read_errors
from charembed.text.words import SpannedText
from charembed.util.reading import check_regular

DEFAULT_LAYER = ""
"""Name of the only layer of a file whose layers nobody named; `read_labelled` gives it a name."""

MAX_BYTES = max_text_bytes(DEFAULT_MAX_TEXT_MB)
"""Longest line or record: a compressed file of some kilobytes can contain a line that fills the memory."""


@dataclass(frozen=True)
class SourceSentence:
    """A sentence as its file has it."""

    words: list[str]
    """The words."""
    tags: dict[str, list[str | None]]
    """Tags of each layer as the file spells them, one per word; None for a word without a tag."""
    original: SpannedText | None = None
    """The text before tokenization with the spans of the words, where the file gives it."""
    document: int = 0
    """Number of the document in its file."""
    lines: list[int] | None = None
    """Line of each word, from 1, where words have lines of their own."""


@dataclass(frozen=True)
class SourceFile:
    """The sentences of a file before their tags are interpreted."""

    sentences: list[SourceSentence]
    """Sentences in the order of the file; none is empty, and all have the same layers."""
    kinds: dict[str, LayerKind] = field(default_factory=dict)
    """Kinds of layers that the format determines; others are found by looking at the tags."""
    notes: list[str] = field(default_factory=list)
    """What was changed or left out, without the name of the file."""


def read_lines(path: Path) -> Iterator[str]:
    """Yield the decoded lines of a file without their ends, which may be those of any system.

    Byte order marks at the beginning of lines are left out: files that were put together have one at each seam.

    Raises:
        CharEmbedError: the file is not a regular one, cannot be read or decompressed, is not UTF-8, or has a line that
            is too long.
        MissingExtraError: the package that decompresses the file is not installed.
    """
    check_labelled(path)
    return (line for _, line in _reader().read(path))


def read_pieces(path: Path) -> Iterator[str]:
    """Yield the decoded text of a file in pieces that may end anywhere.

    Raises:
        CharEmbedError: the file is not a regular one, cannot be read or decompressed, or is not UTF-8.
        MissingExtraError: the package that decompresses the file is not installed.
    """
    check_labelled(path)
    return _reader().pieces(path)


def check_labelled(path: Path) -> None:
    """Refuse what is not a regular file: labelled files are read several times, and a device may never end.

    Raises:
        CharEmbedError: the path is that of a pipe, a device or a folder, or there is no such file.
    """
    with read_errors(path):
        check_regular(path)


def _reader() -> LineReader:
    return LineReader("strict", MAX_BYTES, has_options=False, keep_marks=True)
