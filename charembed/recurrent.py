"""Receives vectors a time step; hands on hidden states a time step. The recurrence, as a readable step and fused."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from charembed.errors import CharEmbedError

LSTM_GATES = 4
"""Input i, forget f, cell g, output o: the row blocks of the weights, in PyTorch's order."""


class LSTMState(NamedTuple):
    """State carried from one time step to the next."""

    hidden: Tensor
    """y_t of each layer. Shape: (num_layers, batch, hidden)"""
    cell: Tensor
    """c_t of each layer. Shape: (num_layers, batch, hidden)"""

    def detach(self) -> LSTMState:
        """The same values, cut off from the graph that computed them (truncated back-propagation)."""
        return LSTMState(self.hidden.detach(), self.cell.detach())


def lstm_step(
    x: Tensor, hidden: Tensor, cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One time step of one layer, as it stands in the literature: the oracle of every faster path.

    i, f, o = σ(W_i* x_t + W_h* y_{t-1} + b_*); g = tanh(W_ig x_t + W_hg y_{t-1} + b_g);
    c_t = f ⊙ c_{t-1} + i ⊙ g; y_t = o ⊙ tanh(c_t)
    (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Args:
        x: x_t. Shape: (batch, input)
        hidden: y_{t-1}. Shape: (batch, hidden)
        cell: c_{t-1}. Shape: (batch, hidden)
        weight_ih: Shape: (4 · hidden, input)
        weight_hh: Shape: (4 · hidden, hidden)
        bias: Shape: (4 · hidden,)

    Returns:
        y_t and c_t. Shape: (batch, hidden) each
    """
    i, f, g, o = (x @ weight_ih.T + hidden @ weight_hh.T + bias).chunk(LSTM_GATES, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


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


class LSTM(nn.Module):
    """LSTM layers on PyTorch's fused kernels, with one bias per gate.

    Input weights are initialised uniformly (Glorot & Bengio 2010), recurrent ones orthogonally gate by gate (Saxe et
    al. 2014), biases as 0 and those of the forget gate as 1 (Jozefowicz et al. 2015).
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        """
        Args:
            input_size: width of x_t.
            hidden_size: width of y_t and c_t.
            num_layers: layers, each reading the one below.
            dropout: probability with which an output of a layer below the top one is zeroed in training, as in
                `VariationalDropout`.
        """
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise CharEmbedError(f"{name} must be positive, got {size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = VariationalDropout(dropout)
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(LSTM_GATES * hidden_size, width)))
            self.register_parameter(
                f"weight_hh_l{layer}", nn.Parameter(torch.empty(LSTM_GATES * hidden_size, hidden_size))
            )
            self.register_parameter(f"bias_l{layer}", nn.Parameter(torch.empty(LSTM_GATES * hidden_size)))
        self.reset_parameters()

    def layer_parameters(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """`weight_ih`, `weight_hh` and `bias` of one layer, as `lstm_step` takes them."""
        return (
            self.get_parameter(f"weight_ih_l{layer}"),
            self.get_parameter(f"weight_hh_l{layer}"),
            self.get_parameter(f"bias_l{layer}"),
        )

    def reset_parameters(self) -> None:
        """Initialise all weights anew."""
        for layer in range(self.num_layers):
            weight_ih, weight_hh, bias = self.layer_parameters(layer)
            with torch.no_grad():
                for block in weight_ih.chunk(LSTM_GATES):
                    nn.init.xavier_uniform_(block)
                for block in weight_hh.chunk(LSTM_GATES):
                    nn.init.orthogonal_(block)
                bias.zero_()
                bias.chunk(LSTM_GATES)[1].fill_(1.0)

    def initial_state(self, batch: int) -> LSTMState:
        """The zero state, on the device and in the type of the weights."""
        zeros = self.layer_parameters(0)[2].new_zeros(self.num_layers, batch, self.hidden_size)
        return LSTMState(zeros, zeros)

    def forward(self, input: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Run over a sequence.

        Args:
            input: Shape: (seq_len, batch, input)
            state: where to start; the zero state by default.

        Returns:
            The top layer's y_t, and the state after the last step. Shape: (seq_len, batch, hidden)
        """
        if state is None:
            state = self.initial_state(input.shape[1])
        output = input
        hidden, cell = [], []
        for layer in range(self.num_layers):
            if layer > 0:
                output = self.dropout(output)
            weight_ih, weight_hh, bias = self.layer_parameters(layer)
            start = [state.hidden[layer : layer + 1], state.cell[layer : layer + 1]]
            # PyTorch's kernels add two biases; one is enough, so the second is zero.
            weights = [weight_ih, weight_hh, bias, torch.zeros_like(bias)]
            # (…, has_biases, num_layers, dropout, train, bidirectional, batch_first)
            output, y, c = torch.lstm(output, start, weights, True, 1, 0.0, self.training, False, False)
            hidden.append(y)
            cell.append(c)
        return output, LSTMState(torch.cat(hidden), torch.cat(cell))
