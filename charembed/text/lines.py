"""Decode text files as numbered lines, with the line ends of every system, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from charembed.errors import CharEmbedError
from charembed.text.opening import File, is_compressed, open_binary, read_errors

DecodingErrors = Literal["strict", "replace"]
NumberedTexts = Iterator[tuple[int, str]]
"""Pairs of a line or record number, from 1, and its text."""

DEFAULT_MAX_TEXT_MB = 128
"""Default of the option `max_text_mb`: the file text8, a single line of 100 MB, is read."""
_MB = 1_000_000
_BLOCK = 1 << 18
"""Bytes that are decoded at a time."""
_BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# Some programs of Windows end lines with "\r\r\n".
_LINE_END = re.compile(b"\r\r\n|\r\n|\n|\r")
_NUL_SHARE = 64
"""A file with more null bytes than one in this number is no text in UTF-8."""


def max_text_bytes(max_text_mb: int) -> int:
    """Return the limit for a line or record in bytes.

    Raises:
        CharEmbedError: the limit is below 1 MB.
    """
    if max_text_mb < 1:
        raise CharEmbedError(f"max_text_mb must be at least 1, got {max_text_mb}")
    return max_text_mb * _MB


def check_text_size(size: int, max_bytes: int, where: str) -> None:
    """Refuse a line or record that is too long.

    Args:
        size: its size in bytes, or in characters.
        max_bytes: the limit.
        where: file and line, for the error message.

    Raises:
        CharEmbedError: it is longer than the limit.
    """
    if size > max_bytes:
        raise CharEmbedError(
            f"{where}: longer than {max_bytes // _MB} MB without an end: divide it, or raise max_text_mb, for which the"
            " memory must suffice several times"
        )


class LineReader:
    """Reads the lines of text files, and counts what it replaces because it is not text."""

    def __init__(self, errors: DecodingErrors, max_bytes: int) -> None:
        """
        Args:
            errors: "strict" to raise an error at bytes that are not UTF-8 and at null bytes, "replace" to read each as
                U+FFFD.
            max_bytes: longest line that is read.
        """
        self._errors = errors
        self._max_bytes = max_bytes
        self.replaced = 0
        """Number of invalid byte sequences and null bytes that were replaced."""

    def read(self, file: File) -> NumberedTexts:
        r"""Yield the lines of a file without their ends ("\n", "\r\n" or "\r") and without byte order marks.

        Raises:
            CharEmbedError: the file cannot be read or decoded, or a line is too long.
            MissingExtraError: a package that decompresses it is not installed.
        """
        name = f"{file} (decompressed)" if is_compressed(file) else str(file)
        number, offset, size = 1, 0, 0
        pending: list[bytes] = []
        with read_errors(file), open_binary(file) as content:
            while data := content.read1(_BLOCK):  # type: ignore[attr-defined]
                if offset == size == 0:
                    _check_encoding(data, name)
                # Decode up to the last end of a line; keep what follows it for the next block.
                end = _last_line_end(data)
                if end:
                    block = b"".join([*pending, data[:end]])
                    lines = self._decode(block, name, number, offset)
                    if size:
                        check_text_size(len(lines[0]), self._max_bytes, f"{name}, line {number}")
                    yield from enumerate(lines, start=number)
                    number += len(lines)
                    offset += len(block)
                    pending, size = [], 0
                pending.append(data[end:])
                size += len(data) - end
                check_text_size(size, self._max_bytes, f"{name}, line {number}")
            if size:
                yield from enumerate(self._decode(b"".join(pending), name, number, offset), start=number)

    def _decode(self, block: bytes, name: str, number: int, offset: int) -> list[str]:
        """Return the lines of whole lines of a file.

        Args:
            block: the lines as they are in the file.
            name: the file, for error messages.
            number: number of the first line.
            offset: number of bytes before the block.
        """
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as error:
            if self._errors == "strict":
                raise _not_utf8(error, block, name, number, offset) from error
            text = block.decode("utf-8", "replace")
            # U+FFFD that the file itself holds is not a replacement.
            self.replaced += text.count("\ufffd") - block.count("\ufffd".encode())
        if "\0" in text:
            if self._errors == "strict":
                position = block.index(b"\0")
                line = number + len(_LINE_END.findall(block, 0, position))
                raise CharEmbedError(
                    f"{name}, line {line}: byte {offset + position} is a null byte, so the file is not text in UTF-8:"
                    " convert it, or use errors 'replace' to read null bytes as U+FFFD"
                )
            self.replaced += text.count("\0")
            text = text.replace("\0", "\ufffd")
        # Files that were put together have a byte order mark at each seam.
        if _BYTE_ORDER_MARK in text:
            text = text.replace(_BYTE_ORDER_MARK, "")
        lines = line_feeds_only(text).split("\n")
        if not lines[-1]:  # what follows the last line end
            lines.pop()
        return lines


def line_feeds_only(text: str) -> str:
    r"""Return a text in which each line ends with "\n", as it may with "\r\n", "\r" or "\r\r\n"."""
    if "\r" not in text:
        return text
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def _last_line_end(data: bytes) -> int:
    r"""Return the position after the last line end; 0 if there is none.

    "\r" at the end of the data is none yet: "\n" may follow.
    """
    return data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, len(data.rstrip(b"\r"))) + 1


def _check_encoding(beginning: bytes, name: str) -> None:
    """Refuse UTF-16, UTF-32 and binary files, of which even `errors="replace"` would make nonsense.

    Raises:
        CharEmbedError: the file is none in UTF-8.
    """
    if beginning.startswith(_UTF16_MARKS) or beginning.count(b"\0") * _NUL_SHARE > max(len(beginning), 2 * _NUL_SHARE):
        raise CharEmbedError(f"{name}: it looks like UTF-16 or a binary file: convert it to UTF-8")


def _not_utf8(error: UnicodeDecodeError, block: bytes, name: str, number: int, offset: int) -> CharEmbedError:
    """Return the error for bytes that are not UTF-8."""
    line = number + len(_LINE_END.findall(block, 0, error.start))
    return CharEmbedError(
        f"{name}, line {line}: byte {offset + error.start} (0x{block[error.start]:02x}) is not UTF-8: convert the file"
        " to UTF-8, or use errors 'replace' to read invalid bytes as U+FFFD"
    )
