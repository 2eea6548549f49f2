"""Average the losses of training steps, and notice when they diverge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import Direction
from charembed.training.direction_trainer import StepResult
from charembed.training.distributed import DistributedContext

LOG_EVERY = 50
"""Number of steps whose results are read together. Reading them waits for the device, so it is not done every step."""
DIVERGED_BITS = 1.0
"""Rise of the mean loss above the lowest one, in bits per character, that counts as divergence."""


class DivergedError(CharEmbedError):
    """The loss has diverged or is not finite."""


@dataclass(frozen=True)
class Means:
    """Means over some steps."""

    bits_per_character: dict[Direction, float]
    """Mean loss of each direction."""
    gradient_norm: dict[Direction, float]
    """Mean gradient norm of each direction, before clipping."""
    nats_per_word: dict[Direction, float]
    """Mean loss of the words of each direction in which any were predicted."""


class Meter:
    """Collect the results of steps, and average them over the steps and over all processes."""

    def __init__(self, directions: Sequence[Direction], distributed: DistributedContext) -> None:
        self._directions = directions
        self._distributed = distributed
        self._restored = torch.empty(0)
        """Results of steps before the run was resumed, on the CPU. Shape: (steps, directions, 2 or 4)"""
        self._steps: list[Tensor] = []
        """Bits per character, gradient norm and, if words are predicted, their loss and their number, of each
        direction, for each step. Shape of one: (directions, 2 or 4)"""
        self.lowest: dict[str, float] = {}
        """Lowest mean loss of each direction, in bits per character."""

    def __len__(self) -> int:
        return len(self._restored) + len(self._steps)

    def add(self, results: dict[Direction, StepResult]) -> None:
        """Add the results of one step, without waiting for the device."""
        values = [[value for value in results[d] if value is not None] for d in self._directions]
        self._steps.append(torch.stack([torch.stack(of_direction) for of_direction in values]))

    def pending(self, step: int) -> list[Any]:
        """Return the results since the last call of `take`, as JSON values for `restore`.

        Args:
            step: number of steps taken.

        Raises:
            DivergedError: a loss or a gradient is not finite.
        """
        return self._checked_steps(step).tolist()

    def restore(self, pending: list[Any], lowest: dict[str, float]) -> None:
        """Return to the moment at which `pending` was called and `lowest` was read."""
        self._restored = torch.tensor(pending, dtype=torch.float64)
        self._steps = []
        self.lowest = dict(lowest)

    def take(self, step: int) -> Means:
        """Return the means over the steps since the last call, of which there must be at least one.

        Args:
            step: number of steps taken.

        Raises:
            DivergedError: a loss or a gradient is not finite, or the mean loss has risen by more than one bit above the
                lowest one.
        """
        # One mean for each direction and each quantity.
        values = self._checked_steps(step)
        self._restored, self._steps = torch.empty(0), []
        means = [dict(zip(self._directions, column, strict=True)) for column in values.mean(dim=0).T.tolist()]
        bits, norms, *words = means
        # A mean over many steps rises by a bit only if the model has been ruined.
        for direction in self._directions:
            lowest = self.lowest.get(direction, math.inf)
            if bits[direction] > lowest + DIVERGED_BITS:
                raise DivergedError(
                    f"the loss of the {direction} model rose from {lowest:.2f} to {bits[direction]:.2f} bits per"
                    f" character in steps {step - len(values) + 1:,} to {step:,}"
                )
            self.lowest[direction] = min(lowest, bits[direction])
        # Steps have different numbers of words, so the mean is that over all words.
        nats = {}
        if words:
            sums, counts = words
            nats = {direction: sums[direction] / counts[direction] for direction in sums if counts[direction]}
        return Means(bits, norms, nats)

    def _checked_steps(self, step: int) -> Tensor:
        """Return the results, averaged over the processes, after checking them. Shape: (steps, directions, 2 or 4)"""
        if not len(self):
            return torch.empty(0)
        # One copy from the device, which waits for it.
        pieces = [self._restored] if len(self._restored) else []
        if self._steps:
            pieces.append(torch.stack(self._steps).cpu().double())
        values = self._distributed.mean(torch.cat(pieces))
        # Name the first bad value and its step, counted back from the last one.
        not_finite = torch.nonzero(~values.isfinite()).tolist()
        if not_finite:
            row, direction, column = not_finite[0]
            name = ("loss", "gradient norm", "loss of words", "number of words")[column]
            raise DivergedError(
                f"the {name} of the {self._directions[direction]} model is {float(values[row, direction, column])}"
                f" at step {step - len(values) + 1 + row:,}"
            )
        return values
