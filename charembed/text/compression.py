"""Recognize compressed files by their first bytes, and decompress them in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from charembed.errors import CharEmbedError, import_extra

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_SIZE = 512
"""Bytes at the beginning of a file that show its format."""
_XZ_MEMORY = 1 << 30
"""Memory that decompressing .xz may take: a damaged or hostile file can claim 4 GB. `xz -9` needs 65 MB."""
_XZ_PADDING = 4
"""Between and after the streams of an .xz file there may be null bytes, a multiple of this number."""
_MAX_CONTENT = 1 << 18
"""Decompressed bytes that a decoder returns at a time, at most; Zstandard returns all of what it was given."""


class Decoder(Protocol):
    """Decompresses one stream, with the interface of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed before there is more output."""

    @property
    def unused_data(self) -> bytes:
        """Input after the end of the stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return the next decompressed bytes."""


class _ZstdDecoder:
    """Gives `zstandard` the interface of `Decoder`. It returns all output at once, so it must get little input."""

    needs_input = True

    def __init__(self, frame: Any, error: type[Exception]) -> None:
        self._frame = frame
        self._error = error

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:  # noqa: ARG002 (see the class)
        try:
            return bytes(self._frame.decompress(data))
        except self._error as error:
            raise OSError(str(error)) from error


class DecompressedStreams(io.RawIOBase):
    """The content of a compressed file, which may consist of several streams one after the other.

    `lzma.LZMAFile`, `bz2.BZ2File` and the reader of `zstandard` take damage after the first stream, or a file that
    stops in the middle of a frame, for the end: a download that broke off would look like a complete file.
    """

    def __init__(
        self, compressed: IO[bytes], new_decoder: Callable[[], Decoder], input_size: int = 1 << 16, padding: int = 0
    ) -> None:
        """
        Args:
            compressed: the compressed file.
            new_decoder: makes a decoder for the next stream.
            input_size: number of compressed bytes that are read at a time.
            padding: there may be null bytes after a stream, a multiple of this number; 0 for none.
        """
        self._compressed = compressed
        self._new_decoder = new_decoder
        self._input_size = input_size
        self._padding = padding
        self._decoder: Decoder | None = new_decoder()
        self._unused = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer with the next decompressed bytes and return their number, 0 at the end.

        Raises:
            EOFError: the file ends in the middle of a stream.
            OSError, lzma.LZMAError: a stream is damaged.
        """
        while not self._content:
            if self._decoder is None and not self._find_stream():
                return 0
            self._content = memoryview(self._decompress())
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._content))
        view[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _decompress(self) -> bytes:
        assert self._decoder is not None
        data = b""
        if self._decoder.needs_input:
            data = self._next_input()
            if not data:
                raise EOFError("the compressed file ends in the middle of a stream")
        content = self._decoder.decompress(data, _MAX_CONTENT)
        if self._decoder.eof:
            self._unused = self._decoder.unused_data
            self._decoder = None
        return content

    def _find_stream(self) -> bool:
        """Move to the next stream, over the padding before it, and return whether there is one."""
        skipped = 0
        while data := self._next_input():
            stream = data.lstrip(b"\0") if self._padding else data
            skipped += len(data) - len(stream)
            if stream:
                self._unused = stream
                self._decoder = self._new_decoder()
                break
        if self._padding and skipped % self._padding:
            raise OSError(
                f"there are {skipped} null bytes after a compressed stream, not a multiple of {self._padding}"
            )
        return self._decoder is not None

    def _next_input(self) -> bytes:
        data = self._unused or self._compressed.read(self._input_size)
        self._unused = b""
        return data


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    # Its type says nothing of reading, but all that is needed of IO[bytes] is there.
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


def _open_xz(file: IO[bytes]) -> IO[bytes]:
    def decoder() -> Decoder:
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    return io.BufferedReader(DecompressedStreams(file, decoder, padding=_XZ_PADDING))


def _open_bzip2(file: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(DecompressedStreams(file, bz2.BZ2Decompressor))


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    zstandard = import_extra("zstandard", extra="zstd", purpose="reading .zst files")

    def decoder() -> Decoder:
        return _ZstdDecoder(zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)

    # Zstandard can make 32 MB of 1 kB at most.
    return io.BufferedReader(DecompressedStreams(file, decoder, input_size=1024))


@dataclass(frozen=True)
class Compression:
    """A format of compressed files."""

    name: str
    """Its name."""
    suffixes: tuple[str, ...]
    """How the names of such files end."""
    magic: tuple[bytes, ...]
    """How such files begin."""
    open: Callable[[IO[bytes]], IO[bytes]]
    """Returns the decompressed content of a file."""


_XZ_MAGIC = (b"\xfd7zXZ\x00", b"\x5d\x00\x00")
"""Beginnings of .xz and .lzma files."""
_BZIP2_MAGIC = tuple(b"BZh%d" % size + block for size in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90"))
"""Beginnings with a block of each size, and without a block."""
_ZSTD_MAGIC = (b"\x28\xb5\x2f\xfd", *(bytes([kind]) + b"\x2a\x4d\x18" for kind in range(0x50, 0x60)))
"""Beginnings with a frame of data, and with a frame of each kind that is to be skipped."""
_COMPRESSIONS = (
    Compression("gzip", (".gz", ".gzip", ".bgz"), (b"\x1f\x8b\x08",), _open_gzip),
    Compression("xz", (".xz", ".lzma"), _XZ_MAGIC, _open_xz),
    Compression("bzip2", (".bz2", ".bz"), _BZIP2_MAGIC, _open_bzip2),
    Compression("Zstandard", (".zst", ".zstd"), _ZSTD_MAGIC, _open_zstd),
)
COMPRESSION_SUFFIXES = tuple(suffix for compression in _COMPRESSIONS for suffix in compression.suffixes)

_OTHER_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (0, b"LZIP\x01", "compressed with lzip"),
    (0, b"\x1f\x9d", "compressed with compress"),
    (0, b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"ARROW1\x00\x00", "an Arrow file"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
)
"""Formats that are recognized and not read: offset and bytes that show them, and what they are."""


def find_compression(head: bytes) -> Compression | None:
    """Return the compression of a file that begins with these bytes; None if it is none that can be read."""
    return next((found for found in _COMPRESSIONS if head.startswith(found.magic)), None)


def check_format(head: bytes, name: str) -> None:
    """Refuse what is recognized and not read.

    Args:
        head: the first bytes of the file, decompressed.
        name: the file.

    Raises:
        CharEmbedError: the file is in such a format.
    """
    for offset, magic, what in _OTHER_FORMATS:
        if head.startswith(magic, offset):
            raise CharEmbedError(f"{name} is {what}, which cannot be read: extract or export its text, and name that")
