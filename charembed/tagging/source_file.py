"""Hold the sentences of a labelled file as they are written, with the numbers of their lines, and decode its text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.tagging.tag_schemes import LayerKind
from charembed.text.opening import is_compressed, open_binary, read_errors
from charembed.text.words import SpannedText

DEFAULT_LAYER = ""
"""Name of the only layer of a file whose layers nobody named; `read_labelled` gives it a name."""

_LINE_END = re.compile("\r\n|\n|\r")
_BYTE_ORDER_MARK = "\ufeff"


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


def read_lines(path: Path) -> list[str]:
    """Return the decoded lines of a file without their ends, which may be those of any system.

    Byte order marks at the beginning of lines are left out: files that were put together have one at each seam.

    Raises:
        CharEmbedError: the file cannot be read or decompressed, or is not UTF-8.
        MissingExtraError: the package that decompresses the file is not installed.
    """
    with read_errors(path), open_binary(path) as content:
        data = content.read()
    name = f"{path} (decompressed)" if is_compressed(path) else str(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        error_line = len(_LINE_END.findall(data[: error.start].decode("utf-8"))) + 1
        hint = " (it looks like UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise CharEmbedError(
            f"{name}, line {error_line}: byte 0x{data[error.start]:02x} is not UTF-8{hint}: convert the file to UTF-8"
        ) from error
    lines = [line.removeprefix(_BYTE_ORDER_MARK) for line in _LINE_END.split(text)]
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise CharEmbedError(
                f"{name}, line {number}: contains a NUL character, so it is binary or UTF-16: convert the file to UTF-8"
            )
    return lines
