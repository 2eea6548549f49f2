"""Define the state that a recurrence carries from one time step to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from torch import Tensor


class HiddenState(NamedTuple):
    """State of the Elman RNN, the GRU and the MGU."""

    hidden: Tensor
    """y_t of each layer and direction. Shape: (num_layers · directions, batch, hidden)"""


class LSTMState(NamedTuple):
    """State of the LSTM and the peephole LSTM."""

    hidden: Tensor
    """y_t of each layer and direction. Shape: (num_layers · directions, batch, hidden or proj_size)"""
    cell: Tensor
    """c_t of each layer and direction. Shape: (num_layers · directions, batch, hidden)"""


State = HiddenState | LSTMState
S = TypeVar("S", bound=State)


def map_state(function: Callable[[Tensor], Tensor], state: S) -> S:
    """Apply a function to each tensor of a state, for example `map_state(torch.detach, state)`."""
    return type(state)(*(function(tensor) for tensor in state))
