"""Locate time steps and sequences in a packed tensor.

A packed tensor has one row for each time step of each sequence, and no padding. As in
`torch.nn.utils.rnn.PackedSequence`, the rows of step 0 come first, then those of step 1, and so on; sequences are
sorted by length, the longest first. Three sequences a, b and c of lengths 3, 2 and 1 are packed as

    a0 b0 c0   a1 b1   a2          batch_sizes = [3, 2, 1]

The rows of one step are therefore a slice, and the sequences that still run at step t are the first `batch_sizes[t]`.
A tensor of shape (seq_len, batch, width) without padding is the same with its first two dimensions flattened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from typing import Any

import torch
from torch import Tensor

from charembed.recurrent.products import linear


@dataclass(frozen=True)
class PackedLayout:
    """Layout of a packed tensor, with the operations that depend on it.

    In shapes, `rows` is the number of rows of a packed tensor.
    """

    batch_sizes: list[int]
    """Number of sequences at each time step, in descending order."""

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.batch_sizes[0]

    @property
    def seq_len(self) -> int:
        """Number of time steps, the length of the longest sequence."""
        return len(self.batch_sizes)

    @property
    def rows(self) -> int:
        """Number of rows of a packed tensor, the sum of all lengths."""
        return self._offsets[-1]

    @property
    def is_dense(self) -> bool:
        """Whether all sequences are equally long."""
        return self.batch_sizes[-1] == self.batch_sizes[0]

    @cached_property
    def _offsets(self) -> list[int]:
        """First row of each time step, and the number of rows."""
        return list(accumulate(self.batch_sizes, initial=0))

    @cached_property
    def _lengths(self) -> list[int]:
        """Length of each sequence."""
        return [sum(size > column for size in self.batch_sizes) for column in range(self.batch)]

    def allocate(self, like: Tensor, width: int, *, needed: bool) -> tuple[tuple[Tensor, ...], Iterable[Any]]:
        """Allocate a packed tensor if it is needed.

        Args:
            like: Tensor whose device and type it takes.
            width: Width of its rows.
            needed: Whether it is needed.

        Returns:
            A tuple of the tensor, and its view of each time step; if it is not needed, an empty tuple, and None for
            each time step.
        """
        if not needed:
            return (), repeat(None, self.seq_len)
        packed = like.new_empty(self.rows, width)
        return (packed,), self.split(packed)

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Return a view of each time step. Shape: (batch_sizes[t], …) each"""
        return torch.split(packed, self.batch_sizes)

    def last_rows(self, packed: Tensor) -> Tensor:
        """Copy the row of each sequence's last time step. Shape: (batch, …)"""
        if self.is_dense:
            return packed[-self.batch :].clone()
        rows = [self._offsets[length - 1] + column for column, length in enumerate(self._lengths)]
        return packed[rows]

    def reverse(self, packed: Tensor) -> Tensor:
        """Reverse each sequence in time, from its own last step to its first. Shape: that of `packed`"""
        if self.is_dense:
            return packed.view(self.seq_len, self.batch, packed.shape[1]).flip(0).flatten(0, 1)
        rows = [
            self._offsets[self._lengths[column] - 1 - step] + column
            for step, size in enumerate(self.batch_sizes)
            for column in range(size)
        ]
        return packed[rows]

    def repeat_over_steps(self, per_sequence: Tensor) -> Tensor:
        """Repeat one row per sequence for each of its time steps. Shape: (batch, …) to (rows, …)"""
        return torch.cat([per_sequence[:size] for size in self.batch_sizes])

    def previous_rows(self, packed: Tensor, initial: Tensor) -> Tensor:
        """Return the row of the time step before each row, at step 0 that of `initial`. Shape: that of `packed`"""
        pieces = [piece[:size] for piece, size in zip(self.split(packed), self.batch_sizes[1:], strict=False)]
        return torch.cat([initial, *pieces])

    def recurrent_weight_gradient(self, gradients: Tensor, states: Tensor, initial: Tensor) -> Tensor:
        """Compute the gradient of a recurrent weight, Σ_t gradients_tᵀ states_{t-1}, in one product.

        Args:
            gradients: Gradient of W states_{t-1} at all time steps. Shape: (rows, output)
            states: States after all time steps. Shape: (rows, hidden)
            initial: State before step 0. Shape: (batch, hidden)

        Returns:
            Shape: (output, hidden)
        """
        if not self.is_dense:
            return linear(gradients.t(), self.previous_rows(states, initial).t())
        # Equally long sequences: the previous states are the same rows shifted by one step, no copy is needed.
        batch = self.batch
        return linear(gradients[batch:].t(), states[:-batch].t()).addmm_(gradients[:batch].t(), initial)

    def previous_state_gradient(self, step: int, gradient: Tensor, d_final: Tensor) -> Tensor:
        """Complete the gradient of the state before a time step with the sequences that ended before it.

        Args:
            step: Time step t.
            gradient: Gradient that reaches the state before step t through that step. Shape: (batch_sizes[t], hidden)
            d_final: Gradient of the final state, which enters where a sequence ends. Shape: (batch, hidden)

        Returns:
            Shape: (batch_sizes[t - 1], hidden)
        """
        # The sequences in columns from size on ended at step t - 1: only d_final reaches them.
        size, previous_size = self.batch_sizes[step], self.batch_sizes[max(step - 1, 0)]
        return gradient if size == previous_size else torch.cat([gradient, d_final[size:previous_size]])
