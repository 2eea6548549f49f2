"""Dropout with one mask for all time steps of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VariationalDropout(nn.Module):
    """Dropout that zeroes the same units at every time step of a sequence (Gal & Ghahramani 2016)."""

    def __init__(self, probability: float) -> None:
        """
        Args:
            probability: Probability with which a unit is zeroed.
        """
        super().__init__()
        self.probability = probability
        self.generator: torch.Generator | None = None
        """Source of the masks; None for PyTorch's global generator. Models that train in parallel threads need a
        generator each to be reproducible."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero random units and scale the others to keep the mean; in evaluation mode, return the input unchanged.

        Args:
            input: Shape: (seq_len, batch, width)

        Returns:
            Shape: (seq_len, batch, width)
        """
        if not self.training or self.probability == 0.0:
            return input
        keep_probability = 1.0 - self.probability
        # One mask for all time steps, so without the first dimension.
        mask = input.new_empty(input.shape[1:]).bernoulli_(keep_probability, generator=self.generator)
        return input * mask.div_(keep_probability)
