"""Open local and remote files to read their bytes, decompressed."""

from __future__ import annotations

import io
import lzma
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, TYPE_CHECKING

from charembed.errors import CharEmbedError, MissingExtraError
from charembed.text.compression import COMPRESSION_SUFFIXES, HEAD_SIZE, check_format, find_compression

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True)
class RemoteFile:
    """A file that `fsspec` opens, such as `https://example.org/text.txt` or `s3://bucket/text.txt.gz`."""

    address: str

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class StandardInput:
    """The standard input of the process, which users name `-`."""

    def __str__(self) -> str:
        return "standard input"


File = Path | RemoteFile | StandardInput

JSONL_SUFFIXES = (".jsonl", ".ndjson")
JSON_SUFFIX = ".json"
PARQUET_SUFFIX = ".parquet"
TABLE_SUFFIXES = {".csv": ",;\t|", ".tsv": "\t"}
"""How the names of tables in text form end, and the characters that may separate their columns."""


class _Rejoined(io.RawIOBase):
    """A file that cannot seek, whose first bytes were read already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer with the next bytes and return their number, 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or self._rest.read1(len(view))  # type: ignore[attr-defined]
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


def _read_head(content: IO[bytes], *, can_seek: bool) -> tuple[bytes, IO[bytes]]:
    """Return the first bytes of a file, and the whole file."""
    head = content.read(HEAD_SIZE)
    if can_seek:
        content.seek(0)
        return head, content
    return head, io.BufferedReader(_Rejoined(head, content))


@contextmanager
def open_binary(file: File) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, decompressed if it is compressed with gzip, xz, bzip2 or Zstandard.

    The content of the file decides, not its name.

    Raises:
        CharEmbedError: the file is an archive, a document or compressed in another way; it is compressed twice; or it
            is not compressed although its name says so.
        MissingExtraError: the file is compressed with Zstandard and `zstandard` is not installed.
        OSError, EOFError, lzma.LZMAError, zlib.error: the file cannot be read, or its compressed content is damaged.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(open_raw(file))
        head, content = _read_head(raw, can_seek=raw.seekable())
        compression = find_compression(head)
        if compression is not None:
            packed = compression.name
            # Decompressed files would seek by beginning again, which no pipe can.
            head, content = _read_head(stack.enter_context(compression.open(content)), can_seek=False)
            compression = find_compression(head)
            if compression is not None:
                raise CharEmbedError(f"{file} is compressed twice, with {packed} and {compression.name}: decompress it")
        elif head and is_compressed(file):
            raise CharEmbedError(f"{file}: cannot be read: it is not compressed as its name says, or damaged")
        check_format(head, str(file))
        yield content


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
    elif isinstance(file, StandardInput):
        yield sys.stdin.buffer
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
        if not isinstance(file, RemoteFile):
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
    if isinstance(file, StandardInput):
        return PurePosixPath("-")
    return file if isinstance(file, Path) else PurePosixPath(re.split("[?#]", file.address)[0])
