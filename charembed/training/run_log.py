"""Receives what a training run has to say; hands it on to log.jsonl and, on request, to TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

LOG = "log.jsonl"


class RunLog:
    """One JSON object a line in `log.jsonl`; its numbers also as TensorBoard scalars."""

    def __init__(self, folder: Path, *, tensorboard: bool, offset: int = 0, step: int = 0) -> None:
        """
        Args:
            folder: the run's folder.
            tensorboard: write event files there too; TensorBoard must be installed.
            offset: of a run that goes on: bytes of its log to keep.
            step: of a run that goes on: events from there on are dropped.
        """
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(os.fspath(folder), purge_step=step)
        path = folder / LOG
        path.touch()
        self._file = path.open("r+b")
        self._file.truncate(min(offset, path.stat().st_size))
        self._file.seek(0, os.SEEK_END)

    @property
    def offset(self) -> int:
        """Bytes written."""
        return self._file.tell()

    def write(self, kind: str, step: int, **values: float | str) -> None:
        """Write one record: what happened, at which step, and its numbers and texts.

        TensorBoard has the numbers by step, and bits per character also by characters read and by seconds.
        """
        self._file.write((json.dumps({"kind": kind, "step": step} | values, ensure_ascii=False) + "\n").encode())
        self._file.flush()
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, str):
                self._writer.add_text(f"{kind}/{name}", value, step)
                continue
            self._writer.add_scalar(f"{kind}/{name}", value, step)
            if name.startswith("bits_per_character"):
                for axis in ("characters", "seconds"):
                    self._writer.add_scalar(f"{kind}_by_{axis}/{name}", value, int(values[axis]))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()
