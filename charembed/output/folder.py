"""The folder that the files of vectors are written to."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from charembed.errors import CharEmbedError
from charembed.output.projection import PROJECTION
from charembed.output.shards import Format
from charembed.util.files import MANIFEST, remove_leftovers, user_path
from charembed.util.outputs import check_output_folder

_LOCK = ".embeddings.lock"
_FORMATS = get_args(Format)
# A file of a cluster is named by its source, its number there and its content.
_OWN_NAME = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(_LOCK)}|{re.escape(PROJECTION)}"
    rf"|part-\d{{5,}}(-\d{{6,}}-[0-9a-f]{{16}})?\.({'|'.join(_FORMATS)})|\..*\.tmp"
)
_UNFINISHED_MANIFEST = re.compile(rf"\.{re.escape(MANIFEST)}\.[0-9a-f]+\.tmp")


class OutputFolder:
    """A folder that contains files of vectors, their manifest and possibly a projection, and nothing else."""

    def __init__(self, name: str | os.PathLike[str]) -> None:
        """
        Args:
            name: path of the folder, which need not exist.

        Raises:
            CharEmbedError: the path cannot be a folder, as in `check_output_folder`, or is named like a file, or the
                folder contains files of other programs.
        """
        self.path = user_path(name)
        check_output_folder(self.path)
        suffix_format = self.path.suffix[1:].replace("npy", "npz")
        if suffix_format in _FORMATS:
            raise CharEmbedError(
                f"output {self.path} must be a folder, which will contain several files: leave out"
                f" {self.path.suffix} and set the format to {suffix_format}"
            )
        if self.path.is_dir():
            check_names({path.name for path in self.path.iterdir()}, str(self.path))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Create the folder if necessary and keep other runs out of it; remove it after an error if it has no vectors.

        Raises:
            CharEmbedError: another run is writing to the folder.
            OSError: the folder cannot be created.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                try:
                    yield
                except BaseException:
                    if is_new and not list(self.path.glob("part-*")):
                        self.clear()
                        (self.path / _LOCK).unlink()
                        self.path.rmdir()
                    raise
        except Timeout as error:
            raise CharEmbedError(f"output {self.path}: another run is writing to this folder") from error

    def file_path(self, number: int, kind: Format) -> Path:
        """Return the path of a file of vectors, by its number from 0."""
        return self.path / f"part-{number:05}.{kind}"

    def remove_unfinished_files(self) -> None:
        """Remove the temporary files that a killed run has left."""
        remove_leftovers(self.path)

    def clear(self) -> None:
        """Remove everything except the lock."""
        for path in [*self.path.glob("part-*"), self.path / PROJECTION, self.path / MANIFEST]:
            path.unlink(missing_ok=True)
        self.remove_unfinished_files()


def check_names(names: Collection[str], folder: str) -> None:
    """Refuse to write to a folder that contains files of other programs.

    Args:
        names: names of the files in the folder.
        folder: the folder, for the error message.

    Raises:
        CharEmbedError: there are such files.
    """
    names = set(names) - {_LOCK}
    foreign = sorted(name for name in names if not _OWN_NAME.fullmatch(name))
    # Without a manifest, another program has written even files whose names match; except the beginning of one.
    if not foreign and MANIFEST not in names:
        foreign = sorted(name for name in names if not _UNFINISHED_MANIFEST.fullmatch(name))
    if foreign:
        raise CharEmbedError(
            f"output {folder} contains {foreign[0]}, which charembed has not written: name another folder"
        )
