"""Claim the output folder of a run, and read what an earlier run left there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from charembed.errors import CharEmbedError
from charembed.pretrained.model_files import STATIC
from charembed.pretrained.model_folder import check_replaceable
from charembed.training.checkpoint import latest_checkpoint, saved_checkpoints
from charembed.training.config import differences
from charembed.training.report import REPORT, Report
from charembed.util.files import RUN_LOCK, atomic_write, recover_folder, remove_leftovers
from charembed.util.outputs import check_output_folder
from charembed.util.reading import MAX_JSON_BYTES, read_file
from charembed.util.yaml_text import load_yaml

CONFIG, BEST, LAST = "config.yaml", "best", "last"
CHECKPOINTS, TEXT, SCRATCH = "checkpoints", "text", ".words.txt.tmp"
_DIGEST_COMMENT = "# SHA-256 of the lines above: "
"""Beginning of the last line of the configuration."""


class RunFolder:
    """The output folder of a run.

    A folder belongs to a run if it has the lock file, which nothing but a run writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.best, self.last = path / CONFIG, path / BEST, path / LAST
        self.checkpoints, self.text, self.report = path / CHECKPOINTS, path / TEXT, path / REPORT
        self.static_vectors, self.scratch = path / STATIC, path / SCRATCH

    @contextmanager
    def claim(self, fields: dict[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Keep other runs out of the folder until the context ends.

        A folder that was made for the run is removed if an error arrives before `start` is called.

        Args:
            fields: the configuration of the run.
            overwrite: whether an earlier run in the folder may be replaced.

        Raises:
            CharEmbedError: another run is using the folder, it contains something other than a run, or a run that
                cannot be resumed with this configuration.
            OSError: the folder cannot be written.
        """
        self._check(fields, overwrite=overwrite)  # before anything is written
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / RUN_LOCK, timeout=0):
                self._check(fields, overwrite=overwrite)  # again, now that no other run can write here
                yield
        except Timeout as error:
            raise CharEmbedError(
                f"output {self.path} is in use by another run: choose another folder, or wait until it ends"
            ) from error
        except BaseException:
            # Leave no empty folder behind if the configuration or the text could not be used.
            if is_new and not self.config.exists():
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @property
    def is_in_use(self) -> bool:
        """Whether a run is using the folder at this moment."""
        lock = self.path / RUN_LOCK
        if not lock.exists():
            return False
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True

    def resumable_checkpoint(self, *, overwrite: bool) -> Path | None:
        """Return the checkpoint to resume from; None if there is none, or if the earlier run is to be replaced.

        Raises:
            CharEmbedError: the folder has checkpoints, and none can be read.
        """
        return None if overwrite else latest_checkpoint(self.checkpoints)

    def start(self, fields: dict[str, Any], *, resumes: bool) -> None:
        """Write the configuration of the run, and make room for it.

        A run that starts over removes the checkpoints, the report and the static vectors of an earlier one; the earlier
        models stay until the new run saves its own.

        Args:
            fields: the configuration of the run.
            resumes: whether the run resumes from a checkpoint.

        Raises:
            OSError: the folder cannot be written.
        """
        # An earlier run may have been killed while it wrote a file or replaced a model.
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)
        for model in (self.best, self.last):
            recover_folder(model)
        if not resumes:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for file in (self.report, self.static_vectors, self.scratch):
                file.unlink(missing_ok=True)
        content = yaml.safe_dump(fields, sort_keys=False)
        atomic_write(self.config, f"{content}{_DIGEST_COMMENT}{hashlib.sha256(content.encode()).hexdigest()}\n")

    def _check(self, fields: dict[str, Any], *, overwrite: bool) -> None:
        """Raise unless a run with this configuration may use the folder."""
        path = self.path
        check_output_folder(path)
        if not path.exists():
            return
        # A folder of the user's own is never touched, not even with overwrite.
        if not (path / RUN_LOCK).exists() and any(path.iterdir()):
            raise CharEmbedError(f"output {path} contains files that are not of a training run: choose another folder")
        # Models are replaced as whole folders, so nothing else may be in them.
        for model in (self.best, self.last):
            check_replaceable(model)
        # Resume, or refuse: without overwrite, nothing of an earlier run may get lost.
        if overwrite:
            return
        if saved_checkpoints(self.checkpoints):
            self._check_same_configuration(fields)
        elif self.best.exists() or self.last.exists():
            raise CharEmbedError(
                f"output {path} contains a model but no checkpoint to resume from: choose another folder, or start"
                " over with --overwrite"
            )

    def configuration(self) -> dict[str, Any]:
        """Return the fields of the configuration that the run in the folder was started with.

        Raises:
            OSError, ValueError, yaml.YAMLError: the file cannot be read.
        """
        content, has_digest, digest = read_file(self.config, MAX_JSON_BYTES).decode().rpartition(_DIGEST_COMMENT)
        if has_digest and hashlib.sha256(content.encode()).hexdigest() != digest.strip():  # 0.1.0 wrote none
            raise ValueError("it has changed since it was written")
        fields: dict[str, Any] = load_yaml(content if has_digest else digest)
        return fields

    def _check_same_configuration(self, fields: dict[str, Any]) -> None:
        try:
            different = differences(self.configuration(), fields)
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise CharEmbedError(f"{self.config} cannot be read, so the run cannot be resumed: {error}") from error
        if different:
            raise CharEmbedError(
                f"output {self.path} contains a run with another configuration ({'; '.join(different)}): to resume it,"
                " use the same configuration; otherwise choose another folder, or start over with --overwrite"
            )


def load_report(folder: Path) -> Report:
    """Return the report of a run, with the state "killed" if it stopped without a word.

    Raises:
        CharEmbedError: there is no report, or it is damaged.
    """
    report = Report.load(folder)
    if report.state == "running" and not RunFolder(folder).is_in_use:
        report = Report.load(folder)  # again: the run may have ended between the two looks
        if report.state == "running":
            report.state = "killed"
    return report
