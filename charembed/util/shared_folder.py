"""A folder that several machines use: a path on storage that they share, or an address that `fsspec` opens."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_file, user_path


def is_address(name: object) -> bool:
    """Return whether a name is an address such as `s3://bucket/folder`, not a path."""
    return isinstance(name, str) and "://" in name


def open_file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        CharEmbedError: `fsspec` does not know the kind of address, or the package that opens it is not installed.
    """
    # Imported here because only those who name an address need it.
    from fsspec.core import url_to_fs

    try:
        # Other machines write there, too: a remembered list of names may be out of date.
        file_system, path = url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        extra = ": pip install 'charembed[s3]'" if address.startswith("s3://") else ""
        raise CharEmbedError(f"{address}: cannot be opened: {error}{extra}") from error
    except ValueError as error:
        raise CharEmbedError(f"{address}: cannot be opened: {error}") from error
    return file_system, str(path)


class SharedFolder:
    """Files in a folder, each of which is complete or absent whoever looks."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: path of the folder or its address.
        """
        self.name = name if is_address(name) else str(user_path(name).absolute())
        self.is_local = not is_address(name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name only: a file system belongs to its process."""
        return SharedFolder, (self.name,)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        return open_file_system(f"file://{self.name}" if self.is_local else self.name)

    def _path(self, name: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{name}"

    def names(self) -> set[str]:
        """Return the names of the files and folders in it; none if it does not exist."""
        file_system, path = self._opened
        try:
            entries = [entry.rstrip("/") for entry in file_system.ls(path, detail=False)]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        # An object store may list an object that stands for the folder itself.
        return {entry.rpartition("/")[2] for entry in entries if entry != path.rstrip("/")}

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read it.

        Raises:
            FileNotFoundError: there is no such file.
        """
        content: IO[bytes] = self._opened[0].open(self._path(name), "rb")
        return content

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            OSError: it cannot be written.
        """
        with self.file(name) as temporary:
            temporary.write_bytes(content)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield the path of a local file to write, which appears in the folder when it is complete.

        Raises:
            OSError: the file cannot be written; an existing one stays as it was.
        """
        if self.is_local:
            with atomic_file(Path(self.name, name)) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            yield path
            self.put(path, name)

    def put(self, path: Path, name: str) -> None:
        """Upload a local file under a hidden name, and give it its own name when all of it has arrived.

        Args:
            path: the local file.
            name: its name in the folder, which may contain slashes.

        Raises:
            OSError: it cannot be uploaded; an existing file stays as it was.
        """
        folder, slash, base = name.rpartition("/")
        hidden = self._path(f"{folder}{slash}.{base}.{secrets.token_hex(4)}.tmp")
        file_system = self._opened[0]
        try:
            file_system.put_file(str(path), hidden)
        except FileNotFoundError:  # not every file system has folders
            file_system.makedirs(self._path(folder), exist_ok=True)
            file_system.put_file(str(path), hidden)
        file_system.mv(hidden, self._path(name))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that do not exist are ignored."""
        for name in names:
            try:
                self._opened[0].rm_file(self._path(name))
            except FileNotFoundError:
                continue
