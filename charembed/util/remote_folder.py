"""Copy finished folders, such as models, to an address of `fsspec` and back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_folder, user_path
from charembed.util.shared_folder import SharedFolder

COMPLETE = "_complete.json"
"""File with the digests of all other files. It is removed before any of them changes and written after all of them."""


def put_folder(folder: Path, address: str) -> None:
    """Copy the files of a folder to an address, where they replace an earlier folder.

    Until the last file has arrived, `get_folder` refuses the address.

    Raises:
        CharEmbedError: the address cannot be opened.
        OSError: a file cannot be read or uploaded. File systems raise errors of their own as well.
    """
    target = SharedFolder(address)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    target.remove([COMPLETE])
    for name in names:
        target.put(folder / name, name)
    target.write(COMPLETE, json.dumps({name: _digest(folder / name) for name in names}).encode())


def get_folder(address: str, names: Collection[str]) -> Path:
    """Return a local copy of a folder that `put_folder` has copied to an address, downloaded if it has changed.

    Args:
        address: the address.
        names: names of the files to download, those that are there. Others may be unsafe to load.

    Raises:
        CharEmbedError: there is no complete folder, or it cannot be read.
    """
    source = SharedFolder(address)
    local = _cache() / hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:32]
    try:
        content = source.read(COMPLETE)
        if content is None:
            raise CharEmbedError(
                f"{address}: there is no complete folder: either the address is wrong, or its upload has not finished"
            )
        digests = {name: digest for name, digest in json.loads(content).items() if name in names}
        if _read(local / COMPLETE) == content and all((local / name).exists() for name in digests):
            return local
        with atomic_folder(local) as new:
            for name, digest in digests.items():
                data = source.read(name)
                if data is None or hashlib.sha256(data).hexdigest() != digest:
                    raise CharEmbedError(f"{address}: {name} is not the file of this folder: it is being replaced")
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            (new / COMPLETE).write_bytes(content)
    except CharEmbedError:
        raise
    except Exception as error:  # each file system has its own errors
        raise CharEmbedError(f"{address}: cannot be read: {type(error).__name__}: {error}") from error
    return local


def _cache() -> Path:
    """Return the folder for downloads, which other programs use too."""
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "charembed"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
