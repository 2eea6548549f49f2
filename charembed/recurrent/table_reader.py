"""Receives rows of a table by number, as characters are; hands on hidden states, without gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charembed.recurrent.layers import Recurrence
from charembed.recurrent.products import Products
from charembed.recurrent.states import S
from charembed.recurrent.step_loop import Inputs, Steps

_ROWS = 128
"""Sequences side by side for which recurrent weights are arranged; it serves other numbers of them nearly as well."""


class TableReader:
    """A recurrence that reads rows of a table, on its step loops, for as long as its weights stay as they are.

    Input products are made once for each distinct row of a call instead of once a step, and recurrent weights are
    arranged once for all calls.
    """

    def __init__(self, recurrence: Recurrence[Any]) -> None:
        """
        Args:
            recurrence: of one direction, on a CPU.
        """
        self._recurrence = recurrence
        self._products = Products(rows=_ROWS)

    def __call__(self, table: Tensor, ids: Tensor, state: S) -> tuple[Tensor, S]:
        """Run over sequences of equal length.

        Args:
            table: inputs by number. Shape: (numbers, input_size)
            ids: numbers of the inputs. Shape: (seq_len, batch)
            state: where to start. Shape: (num_layers, batch, hidden) each

        Returns:
            The top layer's y_t, and the state after the last step. Shape: (seq_len, batch, hidden)
        """
        seq_len, batch = ids.shape
        numbers, which = torch.unique(ids, return_inverse=True)
        which = which.flatten()
        x, steps = table[numbers], Steps([batch] * seq_len)
        finals = []
        for layer in range(self._recurrence.num_layers):
            weights = self._recurrence.layer_parameters(layer)
            start = tuple(tensor[layer] for tensor in state)
            weight_ih, bias, *recurrent = weights.pop("weight_ih"), weights.pop("bias"), *weights.values()
            inputs = Inputs(
                steps, x, weight_ih, bias, start, tuple(recurrent), which if layer == 0 else None, self._products
            )
            done = self._recurrence.kernel.forward(inputs, keep=False)
            x = done.output
            finals.append(done.final)
        return x.view(seq_len, batch, -1), type(state)(*map(torch.stack, zip(*finals, strict=True)))
