"""Decode text files as numbered lines, with the line ends of every system, in bounded memory."""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from typing import Literal

from charembed.errors import CharEmbedError
from charembed.text.opening import PARQUET_SUFFIX, File, is_compressed, open_binary, read_errors

DecodingErrors = Literal["strict", "replace"]
NumberedTexts = Iterator[tuple[int, str]]
"""Pairs of a line or record number, from 1, and its text."""

DEFAULT_MAX_TEXT_MB = 128
"""Default of the option `max_text_mb`: the file text8, a single line of 100 MB, is read."""
_MB = 1_000_000
_BLOCK = 1 << 18
"""Bytes that are decoded at a time."""
_PIECE = 1 << 18
"""Characters of a piece."""
_RAISE_LIMIT = ", or raise max_text_mb, for which the memory must suffice several times"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = "\ufeff"
_MARKS_OF_LINES = re.compile(f"(?<![^\r\n]){_BYTE_ORDER_MARK}")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# Some programs of Windows end lines with "\r\r\n".
_LINE_END = re.compile(b"\r\r\n|\r\n|\n|\r")
_PARQUET_MAGIC = b"PAR1\x15"
"""The magic number of Parquet, and how its first header begins."""
_BROTLI_SUFFIX = ".br"
"""Brotli has no magic number."""
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


def check_text_size(size: int, max_bytes: int, where: str, advice: str = _RAISE_LIMIT) -> None:
    """Refuse a line or record that is too long.

    Args:
        size: its size in bytes, or in characters.
        max_bytes: the limit.
        where: file and line, for the error message.
        advice: what else the error advises than to divide it.

    Raises:
        CharEmbedError: it is longer than the limit.
    """
    if size > max_bytes:
        raise CharEmbedError(f"{where}: longer than {max_bytes // _MB} MB without an end: divide it{advice}")


class LineReader:
    """Reads the lines of text files, and counts what it replaces because it is not text."""

    def __init__(
        self, errors: DecodingErrors, max_bytes: int, *, has_options: bool = True, keep_marks: bool = False
    ) -> None:
        """
        Args:
            errors: "strict" to raise an error at bytes that are not UTF-8 and at null bytes, "replace" to read each as
                U+FFFD.
            max_bytes: longest line that is read.
            has_options: whether users can choose `errors` and `max_bytes`, so that errors advise it.
            keep_marks: whether to keep byte order marks within lines, because offsets of characters count them.
        """
        self._errors = errors
        self._max_bytes = max_bytes
        self._limit_advice = _RAISE_LIMIT if has_options else ""
        self._bytes_advice = ", or use errors 'replace' to read {} as U+FFFD" if has_options else ""
        self._keep_marks = keep_marks
        self.replaced = 0
        """Number of invalid byte sequences and null bytes that were replaced."""

    def read(self, file: File) -> NumberedTexts:
        r"""Yield the lines of a file without their ends ("\n", "\r\n" or "\r") and without byte order marks.

        Raises:
            CharEmbedError: the file cannot be read or decoded, or a line is too long.
            MissingExtraError: a package that decompresses it is not installed.
        """
        name = _content_name(file)
        number, offset, size = 1, 0, 0
        pending: list[bytes] = []
        with read_errors(file), open_binary(file) as content:
            while data := content.read1(_BLOCK):  # type: ignore[attr-defined]
                if offset == size == 0:
                    _check_encoding(data, file)
                # Decode up to the last end of a line; keep what follows it for the next block.
                end = _last_line_end(data)
                if end:
                    block = b"".join([*pending, data[:end]])
                    lines = self._decode(block, name, number, offset)
                    if size:
                        self._check_size(len(lines[0]), f"{name}, line {number}")
                    yield from enumerate(lines, start=number)
                    number += len(lines)
                    offset += len(block)
                    pending, size = [], 0
                pending.append(data[end:])
                size += len(data) - end
                self._check_size(size, f"{name}, line {number}")
            if size:
                yield from enumerate(self._decode(b"".join(pending), name, number, offset), start=number)

    def pieces(self, file: File) -> Iterator[str]:
        """Yield the text of a file in pieces that may end anywhere. Null bytes are not replaced.

        Raises:
            CharEmbedError: the file cannot be read or decoded.
            MissingExtraError: a package that decompresses it is not installed.
        """
        name, line = _content_name(file), 1
        with (
            read_errors(file),
            open_binary(file) as content,
            io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape") as text,
        ):
            while piece := text.read(_PIECE):
                invalid = _SURROGATE.search(piece)
                if invalid is not None and self._errors == "strict":
                    line += piece.count("\n", 0, invalid.start())
                    raise CharEmbedError(
                        f"{name}, line {line}: byte 0x{ord(invalid[0]) - 0xDC00:02x} is not UTF-8: convert the file to"
                        f" UTF-8{self._bytes_advice.format('invalid bytes')}"
                    )
                if invalid is not None:
                    piece, count = _SURROGATE.subn("\ufffd", piece)
                    self.replaced += count
                line += piece.count("\n")
                yield piece

    def _check_size(self, size: int, where: str) -> None:
        check_text_size(size, self._max_bytes, where, self._limit_advice)

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
                line = number + len(_LINE_END.findall(block, 0, error.start))
                raise CharEmbedError(
                    f"{name}, line {line}: byte {offset + error.start} (0x{block[error.start]:02x}) is not UTF-8:"
                    f" convert the file to UTF-8{self._bytes_advice.format('invalid bytes')}"
                ) from error
            text = block.decode("utf-8", "replace")
            # U+FFFD that the file itself holds is not a replacement.
            self.replaced += text.count("\ufffd") - block.count("\ufffd".encode())
        if "\0" in text:
            if self._errors == "strict":
                position = block.index(b"\0")
                line = number + len(_LINE_END.findall(block, 0, position))
                raise CharEmbedError(
                    f"{name}, line {line}: byte {offset + position} is a null byte, so the file is not text in UTF-8:"
                    f" convert it{self._bytes_advice.format('null bytes')}"
                )
            self.replaced += text.count("\0")
            text = text.replace("\0", "\ufffd")
        # Files that were put together have a byte order mark at each seam.
        if _BYTE_ORDER_MARK in text:
            text = _MARKS_OF_LINES.sub("", text) if self._keep_marks else text.replace(_BYTE_ORDER_MARK, "")
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


def _content_name(file: File) -> str:
    """Return the name of a file for errors about its content."""
    return f"{file} (decompressed)" if is_compressed(file) else str(file)


def read_head(file: File) -> bytes:
    """Return the beginning of a file, after checking that it is that of text in UTF-8.

    Raises:
        CharEmbedError: it is not text, or cannot be read.
        MissingExtraError: a package that decompresses it is not installed.
    """
    with read_errors(file), open_binary(file) as content:
        head = content.read(_BLOCK)
    _check_encoding(head, file)
    return head


def _check_encoding(beginning: bytes, file: File) -> None:
    """Refuse binary files, UTF-16 and UTF-32, of which even `errors="replace"` would make nonsense.

    Raises:
        CharEmbedError: the file is not text in UTF-8.
    """
    name = _content_name(file)
    if beginning.startswith(_PARQUET_MAGIC):
        raise CharEmbedError(f"{name} is a Parquet file: rename it to end in {PARQUET_SUFFIX}")
    if _is_zlib(beginning):
        raise CharEmbedError(f"{name} is compressed with zlib, which cannot be read: decompress it")
    if str(file).lower().endswith(_BROTLI_SUFFIX) and not _is_utf8(beginning):
        raise CharEmbedError(f"{name} is compressed with Brotli, which cannot be read: decompress it")
    if beginning.startswith(_UTF16_MARKS) or beginning.count(b"\0") * _NUL_SHARE > max(len(beginning), 2 * _NUL_SHARE):
        raise CharEmbedError(f"{name}: it looks like UTF-16 or a binary file: convert it to UTF-8")


def _is_zlib(beginning: bytes) -> bool:
    """Return whether a file begins like a stream of zlib. Its first byte is an `x`, as in text."""
    if not beginning.startswith(b"x") or _is_utf8(beginning):
        return False
    try:
        return bool(zlib.decompressobj().decompress(beginning, 1))
    except zlib.error:
        return False


def _is_utf8(beginning: bytes) -> bool:
    """Return whether a file may be UTF-8; a character may be cut at the end of its beginning."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return True
