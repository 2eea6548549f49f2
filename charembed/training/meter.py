"""Receives the results of steps; hands on their means, and which step went wrong."""

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
"""Steps whose results are looked at together: on a GPU each look is a wait."""
EXPLODED = 1.0
"""Bits by which the mean loss must rise above the lowest one so far to count as exploded."""


class DivergedError(CharEmbedError):
    """The loss is no number, or has leapt up."""


@dataclass(frozen=True)
class Means:
    """Of some steps."""

    bits_per_character: dict[Direction, float]
    gradient_norm: dict[Direction, float]


class Meter:
    """Means over some steps, over all processes, and a watch on the loss."""

    def __init__(self, directions: Sequence[Direction], distributed: DistributedContext) -> None:
        self._directions = directions
        self._distributed = distributed
        self._steps: list[Tensor] = []
        """Bits per character and gradient norm of each direction. Shape: (directions, 2) each"""
        self.lowest: dict[str, float] = {}
        """Lowest mean of each direction so far, in bits per character."""

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, results: dict[Direction, StepResult]) -> None:
        """One step more."""
        self._steps.append(torch.stack([torch.stack([*results[d]]) for d in self._directions]))

    def pending(self, step: int) -> list[Any]:
        """The steps since the last call of `take`, for `restore`.

        Args:
            step: number of steps done.

        Raises:
            DivergedError: a loss or a gradient is no number.
        """
        return self._checked(step).tolist()

    def restore(self, pending: list[Any], lowest: dict[str, float]) -> None:
        """Go back to where `pending` was called and `lowest` read."""
        self._steps = [torch.tensor(values, dtype=torch.float64) for values in pending]
        self.lowest = dict(lowest)

    def take(self, step: int) -> Means:
        """Means of the steps since the last call; there must be some.

        Args:
            step: number of steps done.

        Raises:
            DivergedError: a loss or a gradient is no number, or the mean loss has risen by more than a bit.
        """
        values = self._checked(step)
        self._steps = []
        bits, norms = (dict(zip(self._directions, column, strict=True)) for column in values.mean(dim=0).T.tolist())
        for direction in self._directions:
            lowest = self.lowest.get(direction, math.inf)
            if bits[direction] > lowest + EXPLODED:
                raise DivergedError(
                    f"the {direction} model's loss rose from {lowest:.2f} to {bits[direction]:.2f} bits per character"
                    f" by step {step:,} (from step {step - len(values) + 1:,} on)"
                )
            self.lowest[direction] = min(lowest, bits[direction])
        return Means(bits, norms)

    def _checked(self, step: int) -> Tensor:
        """What the steps gave, in the mean over the processes. Shape: (steps, directions, 2)"""
        if not self._steps:
            return torch.empty(0)
        values = self._distributed.mean(torch.stack([values.double() for values in self._steps]))
        bad = torch.nonzero(~values.isfinite()).tolist()
        if bad:
            at, direction, column = bad[0]
            name = ("loss", "gradient norm")[column]
            raise DivergedError(
                f"the {self._directions[direction]} model's {name} is {float(values[at, direction, column])}"
                f" at step {step - len(values) + 1 + at:,}"
            )
        return values.cpu()
