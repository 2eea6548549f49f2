"""The outcome of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charembed.training.report import Report
from charembed.training.validation import Validation


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a run."""

    folder: Path
    """Folder of the run."""
    best: Validation | None
    """Validation with the fewest bits per character; None if the run stopped before its first validation."""
    last: Validation | None
    """The latest validation."""
    interrupted: int | None
    """Number of the signal that stopped the run before its budget was spent."""
    report: Report
    """The contents of report.json."""
    is_main_process: bool
    """Whether this process wrote the files; false in all but one process of a distributed run."""
