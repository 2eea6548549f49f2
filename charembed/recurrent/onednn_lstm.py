"""Run an LSTM over ids that select rows of a table in oneDNN's own loop, for inference on a CPU.

PyTorch's `torch.lstm` runs the same loop. It differs in two ways from what is here:

- It reorders the weights in each call, which takes as long as ten time steps. Here they are reordered once.
- oneDNN compiles the loop for each new number of steps and sequences, and keeps a third of a megabyte for each. Here,
  calls have few shapes: their steps are divided into pieces whose lengths are powers of two.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor

from charembed.recurrent.cells import LSTM
from charembed.recurrent.layers import Recurrence
from charembed.recurrent.products import padded_rows
from charembed.recurrent.states import LSTMState

_MAX_STEPS = 256
"""Number of time steps in the longest piece."""
_EXPECTED_SHAPE = (32, 32)
"""Time steps and sequences for which weights are reordered. The order is the same for all numbers of sequences but 1,
which `OneDNNLSTM.columns` avoids."""
_LSTM_MODE = 2
"""PyTorch's number for LSTMs."""
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Types of weights, and how far the loop may be from the same LSTM in float32."""


def runs_on_onednn(recurrence: Recurrence[Any], dtype: torch.dtype) -> TypeGuard[LSTM]:
    """Return whether `OneDNNLSTM` runs a recurrence with weights of a type, float32 or bfloat16."""
    is_lstm = isinstance(recurrence, LSTM) and recurrence.proj_size is None
    return is_lstm and dtype in _TOLERANCES and _onednn_lstm_works(dtype)


@cache
def _onednn_lstm_works(dtype: torch.dtype) -> bool:
    """Return whether PyTorch has its internal oneDNN loop, the one its compiler uses, and computes it correctly.

    The operators are not public, so they are tried before they are trusted. oneDNN has the loop in bfloat16 on CPUs
    with AVX-512.
    """
    # On the CPU whatever the caller's default device and type are.
    weight_ih, weight_hh, bias, x = (
        torch.linspace(-1, 1, rows * columns, dtype=torch.float32, device="cpu").view(rows, columns)
        for rows, columns in ((16, 3), (16, 4), (16, 1), (6, 3))
    )
    initial = torch.zeros(1, 2, 4, dtype=torch.float32, device="cpu")
    weights = (weight_ih, weight_hh, bias.flatten(), torch.zeros_like(bias.flatten()))
    # The answer is remembered, so it must not depend on the caller's automatic mixed precision.
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        try:
            layer = _Layer(*(weight.to(dtype) for weight in weights[:3]))
            initial_state = initial.to(dtype)
            output, _ = layer(x.view(3, 2, 3).to(dtype), LSTMState(initial_state, initial_state))
        except (AttributeError, RuntimeError, TypeError):
            return False
        expected = torch.lstm(x.view(3, 2, 3), [initial, initial], list(weights), True, 1, 0.0, False, False, False)[0]
    return torch.allclose(output.float(), expected, atol=_TOLERANCES[dtype])


class OneDNNLSTM:
    """An LSTM that reads rows of a table. Valid as long as its weights do not change.

    What it computes for a sequence depends neither on the number of sequences nor on the number of time steps in a
    call: each sum is computed in the same order for all of them.
    """

    def __init__(self, lstm: LSTM) -> None:
        """
        Args:
            lstm: Unidirectional LSTM without projection, in float32 or bfloat16 on a CPU; see `runs_on_onednn`.
        """
        with torch.inference_mode():
            self._layers = [_Layer(**lstm.layer_parameters(layer)) for layer in range(lstm.num_layers)]

    def columns(self, sequences: int) -> int:
        """Return the number of sequences to compute in place of fewer ones."""
        return padded_rows(sequences)

    def __call__(self, table: Tensor, ids: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Run over sequences of equal length, without gradients.

        Args:
            table: Inputs by id. Shape: (number of ids, input_size)
            ids: Ids of the inputs. Shape: (seq_len, batch)
            state: Initial state. Shape: (num_layers, batch, hidden) each

        Returns:
            The output y_t of the top layer, and the state after the last step. Shape: (seq_len, batch, hidden)
        """
        x = table[ids]
        final_states = []
        for number, layer in enumerate(self._layers):
            x, final_state = layer(x, LSTMState(*(tensor[number : number + 1].contiguous() for tensor in state)))
            final_states.append(final_state)
        return x, LSTMState(*map(torch.cat, zip(*final_states, strict=True)))


class _Layer:
    """One layer with its weights in oneDNN's order."""

    def __init__(self, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> None:
        self._hidden_size = weight_hh.shape[1]
        self._weights = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
            weight_ih.contiguous(),
            weight_hh.contiguous(),
            self._hidden_size,
            False,  # reverse
            True,  # has_biases
            False,  # batch_first
            [*_EXPECTED_SHAPE, weight_ih.shape[1]],
        )
        # PyTorch adds two biases; this LSTM has one, so the second is zero.
        self._biases = [bias.contiguous(), torch.zeros_like(bias)]

    def __call__(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Run over sequences. Shape: (seq_len, batch, width) to (seq_len, batch, hidden)"""
        outputs = []
        for piece in torch.split(x, _piece_lengths(len(x))):
            output, *new_state, _ = torch.ops.aten.mkldnn_rnn_layer(
                piece,
                *self._weights,
                *self._biases,
                *state,
                False,  # reverse
                [],  # batch_sizes
                _LSTM_MODE,
                self._hidden_size,
                1,  # num_layers
                True,  # has_biases
                False,  # bidirectional
                False,  # batch_first
                False,  # train
            )
            outputs.append(output)
            state = LSTMState(*new_state)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)), state


def _piece_lengths(seq_len: int) -> list[int]:
    """Divide a number of time steps into powers of two, the largest first."""
    remainder = seq_len % _MAX_STEPS
    powers = [1 << bit for bit in reversed(range(_MAX_STEPS.bit_length()))]
    return [_MAX_STEPS] * (seq_len // _MAX_STEPS) + [power for power in powers if power & remainder]
