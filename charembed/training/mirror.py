"""Copy a run to an address as it proceeds, and fetch it from there to resume it on another machine."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.training.checkpoint import SUFFIX, saved_checkpoints
from charembed.training.run_folder import CHECKPOINTS, RunFolder
from charembed.training.run_log import LOG
from charembed.util.files import RUN_LOCK, atomic_file
from charembed.util.remote_folder import put_folder
from charembed.util.shared_folder import SharedFolder

logger = logging.getLogger(__name__)


class Mirror:
    """The copy of a run at an address. Checkpoints are copied last, when all that they refer to has arrived."""

    def __init__(self, address: str, folder: RunFolder) -> None:
        """
        Args:
            address: the address.
            folder: the run.
        """
        self._address = address.rstrip("/")
        self._folder = folder
        self._remote = SharedFolder(self._address)
        self._checkpoints = SharedFolder(f"{self._address}/{CHECKPOINTS}")
        self._copied: dict[Path, int] = {}
        """Time of the last change of each file that is copied."""

    @property
    def _files(self) -> list[Path]:
        folder = self._folder
        return [folder.path / LOG, folder.report, folder.static_vectors, folder.config]

    def fetch(self) -> None:
        """Fetch the latest checkpoint and what belongs to it, unless there is a local run.

        Raises:
            CharEmbedError: the address cannot be read.
        """
        path = self._folder.path
        if path.exists() and any(path.iterdir()):
            return
        try:
            checkpoints = sorted(name for name in self._checkpoints.names() if name.endswith(SUFFIX))
            if not checkpoints:
                return
            logger.info("%s: fetching the run in %s", path, self._address)
            self._folder.checkpoints.mkdir(parents=True, exist_ok=True)
            (path / RUN_LOCK).touch()
            names = self._remote.names()
            for file in self._files:
                if file.name in names:
                    self._download(self._remote, file)
            # Last, because it is what makes the folder that of a run to resume.
            self._download(self._checkpoints, self._folder.checkpoints / checkpoints[-1])
        except CharEmbedError:
            raise
        except Exception as error:  # each file system has its own errors
            raise CharEmbedError(f"mirror {self._address} cannot be read: {type(error).__name__}: {error}") from error

    @staticmethod
    def _download(remote: SharedFolder, path: Path) -> None:
        with remote.open(path.name) as source, atomic_file(path) as temporary, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)

    def push(self, *, is_last: bool = False) -> None:
        """Copy what has changed since the last call.

        Args:
            is_last: whether the run ends. Before that, an address that cannot be written is only logged: training goes
                on, and the next call tries again.

        Raises:
            CharEmbedError: the address cannot be written, and the run ends.
        """
        try:
            for model in (self._folder.last, self._folder.best):
                if self._has_changed(model / "config.json"):
                    put_folder(model, f"{self._address}/{model.name}")
                    self._remember(model / "config.json")
            for file in self._files:
                self._copy(file, self._remote)
            local = saved_checkpoints(self._folder.checkpoints)
            for checkpoint in reversed(local):
                self._copy(checkpoint, self._checkpoints)
            kept = {path.name for path in local}
            self._checkpoints.remove(name for name in self._checkpoints.names() if name not in kept)
        except Exception as error:  # each file system has its own errors
            message = f"mirror {self._address} cannot be written: {type(error).__name__}: {error}"
            if is_last:
                raise CharEmbedError(f"{message}; to try again, run the same command again") from error
            logger.warning("%s; the next checkpoint tries again", message)

    def _copy(self, path: Path, remote: SharedFolder) -> None:
        if self._has_changed(path):
            remote.put(path, path.name)
            self._remember(path)

    def _has_changed(self, path: Path) -> bool:
        return path.exists() and self._copied.get(path) != path.stat().st_mtime_ns

    def _remember(self, path: Path) -> None:
        self._copied[path] = path.stat().st_mtime_ns
