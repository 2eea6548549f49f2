"""Show how a run is doing: a progress bar, log.jsonl, and lines in the program's log."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from charembed.lm.model import Direction
from charembed.training.meter import Means
from charembed.training.run_log import RunLog
from charembed.training.schedule import VALIDATION_SHARE
from charembed.training.validation import Validation

logger = logging.getLogger(__name__)

RECORD_SECONDS = 5.0
"""Least time between two records of training steps in log.jsonl."""
MESSAGE_SECONDS = 60.0
"""Least time between two log lines where no progress bar can be drawn."""


@dataclass(frozen=True)
class StepSummary:
    """The latest steps of a run, summarised."""

    step: int
    """Number of steps taken."""
    spent: float
    """Share of the budget that is spent."""
    seconds: float
    """Seconds since the run began."""
    characters: int
    """Characters read by each direction."""
    characters_per_second: float
    """Mean rate of each direction since the run began, validations excluded."""
    lr: float
    """Learning rate of the last step."""
    means: Means
    """Losses and gradient norms of the steps since the last summary."""

    def __str__(self) -> str:
        bits = " ".join(f"{direction} {value:.3f}" for direction, value in self.means.bits_per_character.items())
        if self.means.nats_per_word:
            nats = " ".join(f"{direction} {value:.2f}" for direction, value in self.means.nats_per_word.items())
            bits += f", nats per word {nats}"
        return f"bits per character {bits}, {self.characters_per_second:,.0f} char/s"


class Progress:
    """Where a run reports what happens. Processes other than the main one have no log, and stay silent."""

    def __init__(self, log: RunLog | None) -> None:
        self._log = log
        # None hides the bar where standard error is not a terminal.
        layout = "{percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}"
        self._bar: Any = tqdm(total=1.0, bar_format=layout, disable=True if log is None else None, dynamic_ncols=True)
        self._unwritten: StepSummary | None = None
        self._has_left_out = False
        self._last_record = -math.inf
        self._last_message = time.monotonic()

    @classmethod
    @contextlib.contextmanager
    def open(cls, log: RunLog | None) -> Iterator[Progress]:
        """Draw the bar, and write log lines above it, until the context ends; then close bar and log."""
        with log or contextlib.nullcontext(), logging_redirect_tqdm():
            progress = cls(log)
            with progress._bar:
                yield progress

    @property
    def log_offset(self) -> int:
        """Bytes of log.jsonl written so far; 0 without a log."""
        return 0 if self._log is None else self._log.offset

    def update(self, spent: float) -> None:
        """Move the bar to a share of the budget."""
        self._bar.update(min(spent, 1.0) - self._bar.n)

    def steps(self, summary: StepSummary) -> None:
        """Show the latest steps on the bar and, every few seconds, in the logs."""
        self._bar.set_postfix_str(str(summary))
        self._unwritten = summary
        if time.monotonic() - self._last_record >= RECORD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the latest steps to the logs, unless they are there already. At its end, a run logs its last step."""
        summary, self._unwritten = self._unwritten, None
        if self._log is None or summary is None:
            return
        # The record in log.jsonl, for plots.
        self._last_record = now = time.monotonic()
        values = {
            "seconds": summary.seconds,
            "characters": summary.characters,
            "lr": summary.lr,
            "characters_per_second": summary.characters_per_second,
        }
        norms = {f"gradient_norm_{direction}": norm for direction, norm in summary.means.gradient_norm.items()}
        losses = _loss_values(summary.means.bits_per_character, summary.means.nats_per_word)
        self._log.write("train", summary.step, **values, **losses, **norms)
        # A line for people, if they see no bar.
        if self._bar.disable and now - self._last_message >= MESSAGE_SECONDS:
            self._last_message = now
            logger.info(f"{min(summary.spent, 1.0):.0%} of the budget, {summary}")

    def validation(self, validation: Validation, sample: str) -> None:
        """Log a validation, with text that the model wrote."""
        if self._log is None:
            return
        values = {"seconds": validation.seconds, "characters": validation.characters}
        losses = _loss_values(validation.by_direction, validation.nats_per_word)
        self._log.write("valid", validation.step, **values, **losses, sample=sample)
        bits = ", ".join(f"{bits:.4f} {direction}" for direction, bits in validation.by_direction.items())
        nats = ", ".join(f"{nats:.3f} {direction}" for direction, nats in validation.nats_per_word.items())
        logger.info(
            f"step {validation.step:,}, {validation.seconds / 60:.1f} min, {validation.characters:,} characters per"
            f" direction: validation {bits} bits per character{f'; {nats} nats per word' if nats else ''}"
        )
        logger.info(f"sample: {' '.join(sample.split())}")

    def validation_left_out(self, step: int) -> None:
        """Log the first time that a validation is left out because validations have taken their share of the budget."""
        if self._log is not None and not self._has_left_out:
            self._has_left_out = True
            logger.info(
                f"step {step:,}: validation left out, and others may be, because they take at most"
                f" {VALIDATION_SHARE:.0%} of budget.minutes; a shorter validation text takes less"
            )

    def end(self, steps: int, warmup_steps: int) -> None:
        """Log if the budget was spent within the warm-up.

        Args:
            steps: number of steps taken.
            warmup_steps: number of steps of the warm-up.
        """
        if self._log is not None and 0 < steps < warmup_steps:
            logger.warning(
                f"the run ended after {steps:,} steps, within its warm-up of {warmup_steps:,}: the learning rate never"
                " reached its peak; raise the budget, or lower optimizer.warmup_steps"
            )

    def rollback(self, step: int, seconds: float, lr: float, reason: str) -> None:
        """Log the return to an earlier step with a lower learning rate."""
        self._unwritten = None
        logger.warning(f"{reason}: returned to step {step:,} with a learning rate of {lr:g}")
        if self._log is not None:
            self._log.write("rollback", step, seconds=seconds, lr=lr, reason=reason)


def _loss_values(bits: dict[Direction, float], nats: dict[Direction, float]) -> dict[str, float]:
    """Return losses by the names that they have in log.jsonl."""
    values = {f"bits_per_character_{direction}": value for direction, value in bits.items()}
    return values | {f"nats_per_word_{direction}": value for direction, value in nats.items()}
