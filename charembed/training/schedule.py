"""Receives a budget and how much of it is spent; hands on the learning rate and when to stop."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from charembed.errors import CharEmbedError
from charembed.lm.model import Cell


@dataclass
class BudgetConfig:
    """How long to train. Where several are given, the first one spent ends the run; where none is, 60 minutes."""

    minutes: float | None = None
    """Wall-clock minutes, validation included."""
    steps: int | None = None
    """Optimiser steps. 0 writes the untrained model."""
    epochs: float | None = None
    """Passes over the training text."""

    def __post_init__(self) -> None:
        for name in ("minutes", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise CharEmbedError(f"budget.{name} must be positive and finite, got {value}")
        if self.steps is not None and self.steps < 0:
            raise CharEmbedError(f"budget.steps must not be negative, got {self.steps}")

    @property
    def limit_minutes(self) -> float | None:
        """Minutes after which the run ends, given or by default."""
        # Not written to `minutes`: the command line makes a default first and sets, say, `steps` in it afterwards.
        return 60.0 if self.minutes is self.steps is self.epochs is None else self.minutes

    def spent(self, *, seconds: float, steps: int, epochs: float) -> float:
        """Share of the budget that is spent, 1 at its end."""
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
    """AdamW (Loshchilov & Hutter 2019) with linear warm-up and linear decay that ends with the budget."""

    lr: float | None = None
    """Highest learning rate. By default what suits the recurrence: 0.003 for an LSTM, 0.002 for an Elman RNN, 0.0025
    for the others."""
    final_lr: float = 0.01
    """Learning rate at the end of the budget, as a share of the highest."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises to the highest."""
    weight_decay: float = 0.01
    """Decay of the weight matrices; biases are left alone."""
    beta1: float = 0.9
    """Decay rate of the first moment."""
    beta2: float = 0.99
    """Decay rate of the second moment."""
    clip_norm: float = 1.0
    """Norm that the gradient of each direction is scaled down to where it is greater."""

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
        """With the learning rate of a recurrence, where none was given (docs/experiments.md)."""
        if self.lr is not None:
            return self
        return dataclasses.replace(self, lr={"lstm": 0.003, "elman": 0.002}.get(cell, 0.0025))

    def learning_rate(self, *, spent: float, step: int) -> float:
        """Learning rate of a step, counted from 0, when a share of the budget is spent."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        left = 1.0 - min(spent, 1.0)
        assert self.lr is not None, "for_cell sets it"
        return self.lr * warmup * (self.final_lr + (1.0 - self.final_lr) * left)
