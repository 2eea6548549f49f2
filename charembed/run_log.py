"""Receives what a training run has to say; hands it on to log.jsonl and, on request, to TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any


class RunLog:
    """One JSON object a line in `log.jsonl`; its numbers also as TensorBoard scalars, by step."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        """
        Args:
            folder: the run's folder.
            tensorboard: write event files there too; TensorBoard must be installed.
        """
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(os.fspath(folder))
        self._file = (folder / "log.jsonl").open("w", encoding="utf-8")

    def write(self, kind: str, step: int, **values: float) -> None:
        """Write one record: what happened, at which step, and its numbers."""
        self._file.write(json.dumps({"kind": kind, "step": step} | values) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()
