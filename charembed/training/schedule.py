"""The budget of a run, and the learning rate that depends on how much of it is spent."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from charembed.errors import CharEmbedError
from charembed.lm.model import Cell

DEFAULT_MINUTES = 60.0
VALIDATION_SHARE = 0.2
"""Share of a budget in minutes that is enough for everything but steps: validations, samples, checkpoints."""


@dataclass
class BudgetConfig:
    """How long to train. If several limits are given, the first one spent ends the run; if none is, 60 minutes."""

    minutes: float | None = None
    """Wall-clock minutes of training, validation included. A resumed run continues with the minutes that are left."""
    steps: int | None = None
    """Number of optimizer steps; gives the same weights on a fast and a slow machine. 0 writes the untrained model."""
    epochs: float | None = None
    """Number of passes over the training text, such as 2 or 0.5; not for data.streaming."""

    def __post_init__(self) -> None:
        for name in ("minutes", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise CharEmbedError(f"budget.{name} must be positive and finite, got {value}")
        if self.steps is not None and self.steps < 0:
            raise CharEmbedError(f"budget.steps must not be negative, got {self.steps}")

    @property
    def limit_minutes(self) -> float | None:
        """Minutes after which the run ends: the given ones, or the default if there is no limit at all."""
        # Not written to `minutes`: the command line builds a default first and sets, for example, `steps` in it later.
        return DEFAULT_MINUTES if self.minutes is self.steps is self.epochs is None else self.minutes

    def allows_validation(self, others: float, expected: float) -> bool:
        """Return whether a validation before the end of the budget leaves most of its minutes to the steps.

        Args:
            others: seconds that the run has spent on anything but steps.
            expected: seconds that the validation will take.
        """
        return self.limit_minutes is None or others + expected <= VALIDATION_SHARE * 60.0 * self.limit_minutes

    def spent(self, *, seconds: float, steps: int, epochs: float) -> float:
        """Return the share of the budget that is spent: 0 at the start, 1 or more at the end."""
        # The limit that is nearest to its end decides.
        shares = []
        if self.limit_minutes is not None:
            shares.append(seconds / (60.0 * self.limit_minutes))
        if self.steps is not None:
            shares.append(steps / self.steps if self.steps else 1.0)
        if self.epochs is not None:
            shares.append(epochs / self.epochs)
        return max(shares)


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019) with linear warm-up and a linear decay that ends with the budget."""

    lr: float | None = None
    """Peak learning rate. The default depends on the recurrence: 0.003 for an LSTM, 0.002 for an Elman RNN, 0.0025 for
    the others. Lower it if the loss diverges."""
    final_lr: float = 0.01
    """Learning rate at the end of the budget, as a fraction of the peak."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from zero to the peak."""
    weight_decay: float = 0.01
    """Weight decay of the matrices; biases are not decayed. Raise it if a small text is read many times."""
    beta1: float = 0.9
    """Decay rate of the first moment (the mean of the gradients)."""
    beta2: float = 0.99
    """Decay rate of the second moment (the mean of the squared gradients)."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of each direction; a longer gradient is scaled down to it."""

    def __post_init__(self) -> None:
        for name in ("lr", "clip_norm"):
            if name == "lr" and self.lr is None:
                continue
            if not 0 < getattr(self, name) < math.inf:
                raise CharEmbedError(f"optimizer.{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("final_lr", "warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise CharEmbedError(f"optimizer.{name} must be finite and not negative, got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise CharEmbedError(f"optimizer.{name} must be at least 0 and below 1, got {getattr(self, name)}")

    def for_cell(self, cell: Cell) -> OptimizerConfig:
        """Return this configuration with the default learning rate of a recurrence, unless one is given.

        The defaults were measured (docs/experiments.md).
        """
        if self.lr is not None:
            return self
        return dataclasses.replace(self, lr={"lstm": 0.003, "elman": 0.002}.get(cell, 0.0025))

    def learning_rate(self, *, spent: float, step: int) -> float:
        """Return the learning rate of a step.

        Args:
            spent: share of the budget that is spent.
            step: number of the step, from 0.
        """
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        remaining = 1.0 - min(spent, 1.0)
        assert self.lr is not None, "resolve_settings sets it"
        return self.lr * warmup * (self.final_lr + (1.0 - self.final_lr) * remaining)
