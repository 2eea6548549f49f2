"""Dropout for sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VariationalDropout(nn.Module):
    """Dropout that zeroes the same units at every time step of a sequence (Gal & Ghahramani 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator: torch.Generator | None = None
        """Where the masks come from; PyTorch's global generator by default. Models trained in parallel threads need one
        each to be reproducible."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero some units and scale the others, in training only.

        Args:
            input: Shape: (seq_len, batch, width)

        Returns:
            Shape: (seq_len, batch, width)
        """
        if not self.training or self.probability == 0.0:
            return input
        kept = 1.0 - self.probability
        return input * input.new_empty(input.shape[1:]).bernoulli_(kept, generator=self.generator).div_(kept)
