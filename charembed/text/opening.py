"""Open local and remote files to read their bytes, decompressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from charembed.errors import CharEmbedError, MissingExtraError, import_extra

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_INPUT = 1024
"""Compressed bytes that are decompressed at a time: Zstandard can make 32 MB of them at most."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that `fsspec` opens, such as `https://example.org/text.txt` or `s3://bucket/text.txt.gz`."""

    address: str

    def __str__(self) -> str:
        return self.address


File = Path | RemoteFile


class ZstdFile(io.RawIOBase):
    """The content of a Zstandard file, which may consist of several frames one after the other.

    The reader of `zstandard`, which `fsspec` uses too, returns what it has where a file ends in the middle of a frame:
    a download that broke off would look like a complete file.
    """

    def __init__(self, compressed: IO[bytes]) -> None:
        """
        Raises:
            MissingExtraError: `zstandard` is not installed.
        """
        zstandard = import_extra("zstandard", extra="zstd", purpose="reading .zst files")
        self._start_frame = zstandard.ZstdDecompressor().decompressobj
        self._error: type[Exception] = zstandard.ZstdError
        self._compressed = compressed
        self._frame: Any = None
        self._unused = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer with the next decompressed bytes and return their number, 0 at the end.

        Raises:
            EOFError: the file ends in the middle of a frame.
            OSError: the file is not compressed by Zstandard, or damaged.
        """
        while not self._content:
            compressed = self._unused or self._compressed.read(_INPUT)
            if not compressed:
                if self._frame is not None:
                    raise EOFError("compressed file ended before the end of a Zstandard frame")
                return 0
            self._content = memoryview(self._decompress(compressed))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._content))
        view[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _decompress(self, compressed: bytes) -> bytes:
        self._frame = self._frame or self._start_frame()
        try:
            content: bytes = self._frame.decompress(compressed)
        except self._error as error:
            raise OSError(str(error)) from error
        self._unused = b""
        if self._frame.eof:
            self._unused = self._frame.unused_data
            self._frame = None
        return content


_DECOMPRESSORS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": lambda file: io.BufferedReader(ZstdFile(file)),
}
COMPRESSION_SUFFIXES = tuple(_DECOMPRESSORS)


@contextmanager
def open_binary(file: File) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, decompressed where its name ends in .gz, .xz, .bz2 or .zst.

    Raises:
        MissingExtraError: the file ends in .zst and `zstandard` is not installed.
        OSError, EOFError, lzma.LZMAError, zlib.error: the file cannot be read, or its compressed content is damaged.
    """
    with ExitStack() as stack:
        content = stack.enter_context(open_raw(file))
        decompressor = _DECOMPRESSORS.get(_path(file).suffix.lower())
        yield content if decompressor is None else stack.enter_context(decompressor(content))


@contextmanager
def open_raw(file: File) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes as they are.

    Raises:
        OSError: the file cannot be read. Remote file systems raise errors of their own as well.
    """
    if isinstance(file, Path):
        # Not by fsspec, which seeks in all that it opens, so that neither a pipe nor /dev/stdin could be read.
        with file.open("rb") as content:
            yield content
    else:
        # Imported here because only those who name an address need it.
        import fsspec

        # Buffered: some of fsspec's files cannot read a line, and those that can do so slowly.
        with fsspec.open(file.address, "rb") as remote, io.BufferedReader(remote) as content:
            yield content


@contextmanager
def read_errors(file: File) -> Iterator[None]:
    """Turn the errors of opening and reading a file into a `CharEmbedError` that names the file."""
    try:
        yield
    except (CharEmbedError, MissingExtraError):
        raise
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CharEmbedError(f"{file}: cannot be read: {reason}") from error
    except Exception as error:
        # Each remote file system has its own errors, for networks, permissions and packages that are not installed.
        if isinstance(file, Path):
            raise
        raise CharEmbedError(f"{file}: cannot be read: {type(error).__name__}: {error}") from error


def is_compressed(file: File) -> bool:
    """Return whether the name of the file says that it is compressed."""
    return _path(file).suffix.lower() in COMPRESSION_SUFFIXES


def format_suffix(file: File) -> str:
    """Return the suffix that names the format of the content, in lower case: `.jsonl` for `Notes.JSONL.gz`."""
    path = _path(file)
    return PurePath(path.stem).suffix.lower() if is_compressed(file) else path.suffix.lower()


def _path(file: File) -> PurePath:
    """Return the path of a file, without the query of an address."""
    return file if isinstance(file, Path) else PurePosixPath(re.split("[?#]", file.address)[0])
