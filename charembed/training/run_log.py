"""Write the losses and events of a run to log.jsonl and, on request, to TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from charembed.util.files import errors_name
from charembed.util.reading import check_regular

LOG = "log.jsonl"


class RunLog:
    """The log of a run: one JSON object per line in `log.jsonl`, and TensorBoard scalars if requested."""

    def __init__(self, folder: Path, *, tensorboard: bool, offset: int = 0, step: int = 0) -> None:
        """
        Args:
            folder: the folder of the run.
            tensorboard: whether to write event files there too; TensorBoard must be installed.
            offset: bytes of an existing log to keep; the rest is of steps that are taken again.
            step: number of steps taken; TensorBoard drops later events.

        Raises:
            CharEmbedError: there is a log that is not a regular file.
            OSError: the log cannot be written.
        """
        self._tensorboard: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(os.fspath(folder), purge_step=step)
        # Steps after the checkpoint are taken again, so their records are cut off. A lost log starts empty.
        self._path = folder / LOG
        self._path.touch()
        check_regular(self._path)
        self._file = self._path.open("r+b")
        self._file.truncate(min(offset, self._path.stat().st_size))
        self._file.seek(0, os.SEEK_END)

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, kind: str, step: int, **values: float | str) -> None:
        """Write one record.

        TensorBoard gets the numbers by step, and bits per character also by characters read and by seconds.

        Args:
            kind: train, valid or rollback.
            step: number of steps taken.
            **values: the numbers and texts of the record; with bits per character, `characters` and `seconds` too.
        """
        with errors_name(self._path):
            self._file.write((json.dumps({"kind": kind, "step": step} | values, ensure_ascii=False) + "\n").encode())
            self._file.flush()
        if self._tensorboard is None:
            return
        # TensorBoard: one scalar or text for each value.
        for name, value in values.items():
            if isinstance(value, str):
                self._tensorboard.add_text(f"{kind}/{name}", value, step)
                continue
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)
            if name.startswith("bits_per_character"):
                for axis in ("characters", "seconds"):
                    self._tensorboard.add_scalar(f"{kind}_by_{axis}/{name}", value, int(values[axis]))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
