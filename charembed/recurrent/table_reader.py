"""Run a recurrence over ids that select rows of a table, such as characters and their embeddings, for inference.

This is the fast path of embedding on a CPU, for all recurrences but the LSTM (`charembed.recurrent.onednn_lstm`). It
differs from `Recurrence.forward` in three ways:

- The input product W_i x + b of the first layer is computed once for each distinct id of a call instead of once for
  each time step; the steps look it up.
- Weights are reordered for oneDNN once for all calls instead of once for each call.
- What it computes for a sequence depends neither on the number of sequences nor on the number of time steps in a call:
  each sum is computed in the same order for all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from charembed.recurrent.layers import Recurrence
from charembed.recurrent.packed_layout import PackedLayout
from charembed.recurrent.products import ProductCache, padded_rows
from charembed.recurrent.states import S
from charembed.recurrent.step_loop import LoopInputs

_EXPECTED_BATCH = 128
"""Batch size for which weights are reordered. Other batch sizes run nearly as fast."""
_TABLE_ROWS = 16
"""The number of distinct ids is rounded up to a multiple of this."""


class TableReader:
    """A recurrence that reads rows of a table through its step loops. Valid as long as its weights do not change."""

    def __init__(self, recurrence: Recurrence[Any]) -> None:
        """
        Args:
            recurrence: Unidirectional recurrence on a CPU.
        """
        self._recurrence = recurrence
        self._products = ProductCache(rows=_EXPECTED_BATCH)

    def columns(self, sequences: int) -> int:
        """Return the number of sequences to compute in place of fewer ones."""
        return padded_rows(sequences, self._recurrence.hidden_size)

    def __call__(self, table: Tensor, ids: Tensor, state: S) -> tuple[Tensor, S]:
        """Run over sequences of equal length, without gradients.

        Args:
            table: Inputs by id. Shape: (number of ids, input_size)
            ids: Ids of the inputs. Shape: (seq_len, batch)
            state: Initial state. Shape: (num_layers, batch, hidden) each

        Returns:
            The output y_t of the top layer, and the state after the last step. Shape: (seq_len, batch, hidden)
        """
        seq_len, batch = ids.shape
        layout = PackedLayout([batch] * seq_len)
        # The first layer reads distinct inputs and where each row finds its own; the others read the layer below.
        distinct_ids, table_rows = torch.unique(ids, return_inverse=True)
        x = table[functional.pad(distinct_ids, (0, -len(distinct_ids) % _TABLE_ROWS))]
        row_ids: Tensor | None = table_rows.flatten()
        final_states = []
        for layer in range(self._recurrence.num_layers):
            weights = self._recurrence.layer_parameters(layer)
            initial_state = tuple(tensor[layer] for tensor in state)
            weight_ih, bias, *recurrent = weights.pop("weight_ih"), weights.pop("bias"), *weights.values()
            inputs = LoopInputs(layout, x, weight_ih, bias, initial_state, tuple(recurrent), row_ids, self._products)
            outputs = self._recurrence.kernel.forward(inputs, save_for_backward=False)
            x, row_ids = outputs.output, None
            final_states.append(outputs.final_state)
        return x.view(seq_len, batch, -1), type(state)(*map(torch.stack, zip(*final_states, strict=True)))
