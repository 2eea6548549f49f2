"""Receives the folder of a run; hands it on to one run at a time, and says what an earlier one has left there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from charembed.errors import CharEmbedError
from charembed.pretrained.model_folder import check_replaceable
from charembed.training.checkpoint import latest_checkpoint, saved_checkpoints
from charembed.training.config import TrainConfig, as_fields, differences
from charembed.training.report import REPORT
from charembed.util.files import RUN_LOCK, atomic_write, recover_folder

CONFIG, BEST, LAST = "config.yaml", "best", "last"
CHECKPOINTS, TEXT = "checkpoints", "text"


class RunFolder:
    """The output folder of a run.

    What makes a folder that of a run is its lock file, which nothing but a run writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.best, self.last = path / CONFIG, path / BEST, path / LAST
        self.checkpoints, self.text, self.report = path / CHECKPOINTS, path / TEXT, path / REPORT

    @classmethod
    @contextmanager
    def claimed(cls, config: TrainConfig) -> Iterator[RunFolder]:
        """Have the folder to oneself. If nothing comes of it, a folder made for it is removed again.

        Raises:
            CharEmbedError: another run has it, it holds something else, or a run that cannot go on.
            OSError: it cannot be written.
        """
        folder = cls(Path(config.output))
        folder._check(config)
        made = not folder.path.exists()
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.path / RUN_LOCK, timeout=0):
                folder._check(config)  # once more, now that nobody else can write here
                yield folder
        except Timeout as error:
            raise CharEmbedError(
                f"output {folder.path} is in use by another run: name another folder, or wait"
            ) from error
        except BaseException:
            if made and not folder.config.exists():
                shutil.rmtree(folder.path, ignore_errors=True)
            raise

    @property
    def is_in_use(self) -> bool:
        """Whether a run has it now."""
        try:
            with FileLock(self.path / RUN_LOCK, timeout=0):
                return False
        except Timeout:
            return True

    def earlier_run(self, config: TrainConfig) -> Path | None:
        """The checkpoint of a run that was ended here, if this one is to go on from there.

        Raises:
            CharEmbedError: none can be read.
        """
        return None if config.overwrite else latest_checkpoint(self.checkpoints)

    def start(self, config: TrainConfig, *, goes_on: bool) -> None:
        """Write the configuration of a run that goes on, or of one that starts anew in the place of an earlier one,
        whose models stay until this one saves its own.

        Raises:
            OSError: it cannot be written.
        """
        for model in (self.best, self.last):
            recover_folder(model)
        if not goes_on:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            self.report.unlink(missing_ok=True)
        atomic_write(self.config, yaml.safe_dump(as_fields(config), sort_keys=False))

    def _check(self, config: TrainConfig) -> None:
        path = self.path
        if not path.exists():
            return
        if not path.is_dir():
            raise CharEmbedError(f"output {path} is a file: name a folder")
        if not (path / RUN_LOCK).exists() and any(path.iterdir()):
            raise CharEmbedError(f"output {path} holds something that is no training run: name another folder")
        for model in (self.best, self.last):
            check_replaceable(model)
        if config.overwrite:
            return
        if saved_checkpoints(self.checkpoints):
            self._check_same(config)
        elif self.best.exists() or self.last.exists():
            raise CharEmbedError(
                f"output {path} holds a model but no checkpoint to go on from: name another folder, or say overwrite:"
                " true"
            )

    def _check_same(self, config: TrainConfig) -> None:
        try:
            before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            found = differences(before, config)
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise CharEmbedError(f"{self.config} cannot be read, so the run cannot go on: {error}") from error
        if found:
            raise CharEmbedError(
                f"output {self.path} holds a run with another configuration ({'; '.join(found)}): give the same to go"
                " on with it, name another folder, or say overwrite: true"
            )
