"""The five recurrences."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.recurrent.equations import (
    elman_step,
    gru_reset_after_step,
    gru_step,
    lstm_step,
    mgu_step,
    peephole_lstm_step,
)
from charembed.recurrent.kernels import ElmanKernel, GRUKernel, GRUResetAfterKernel, LSTMKernel
from charembed.recurrent.layers import Recurrence
from charembed.recurrent.states import HiddenState, LSTMState
from charembed.recurrent.step_loop import Kernel, Steps

OutputGate = Literal["updated", "previous"]


class ElmanRNN(Recurrence[HiddenState]):
    """The simple recurrent network, by `elman_step`.

    Runs on cuDNN on CUDA and elsewhere on a step loop of ours, since PyTorch has no fused one.
    """

    gates = ("output",)
    state_type = HiddenState

    def _make_kernel(self) -> Kernel:
        return ElmanKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        return elman_step(x, state, **self.layer_parameters(layer, reverse=reverse))

    def _run_layer(
        self, packed: Tensor, steps: Steps, state: HiddenState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, HiddenState]:
        if packed.is_cuda:
            bias = weights["bias"]
            pair = [weights["weight_ih"], weights["weight_hh"], bias, torch.zeros_like(bias)]
            return self._run_torch(torch.rnn_tanh, packed, steps, state, pair)
        return super()._run_layer(packed, steps, state, weights)


class LSTM(Recurrence[LSTMState]):
    """Long short-term memory, by `lstm_step`, on PyTorch's fused kernels.

    On a CPU with lengths or a projection, which oneDNN has not, it runs on a step loop of ours. The forget gate's bias
    starts as 1 (Jozefowicz et al. 2015).
    """

    gates = ("input", "forget", "cell", "output")
    state_type = LSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        *,
        dropout: float = 0.0,
        proj_size: int | None = None,
    ) -> None:
        """
        Args:
            input_size: width of x_t.
            hidden_size: width of the state, and of y_t without a projection.
            num_layers: layers, each reading the one below.
            bidirectional: both directions, with weights for each; outputs stand side by side.
            dropout: of the layers below the top one, in training, as in `VariationalDropout`.
            proj_size: width of y_t with a projection inside the recurrence (Sak et al. 2014), as in PyTorch and
                other than in `CharLMConfig`, where it is one above the top layer; none by default.

        Raises:
            CharEmbedError: an argument out of range; proj_size must be below hidden_size.
        """
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout=dropout)

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        self._bias(weights, "forget").fill_(1.0)

    def _make_kernel(self) -> Kernel:
        return LSTMKernel()

    def step(self, x: Tensor, state: LSTMState, layer: int = 0, *, reverse: bool = False) -> LSTMState:
        return lstm_step(x, state, **self.layer_parameters(layer, reverse=reverse))

    def _run_layer(
        self, packed: Tensor, steps: Steps, state: LSTMState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, LSTMState]:
        bias = weights["bias"]
        if not packed.is_cuda and (self.proj_size is not None or not steps.dense):  # oneDNN has neither
            return super()._run_layer(packed, steps, state, weights)
        # PyTorch's kernels add two biases; one is enough, so the second is zero.
        parameters = [weights["weight_ih"], weights["weight_hh"], bias, torch.zeros_like(bias)]
        if self.proj_size is not None:
            parameters.append(weights["weight_hr"])
        return self._run_torch(torch.lstm, packed, steps, state, parameters)


class PeepholeLSTM(Recurrence[LSTMState]):
    """The LSTM whose gates see the cell state, by `peephole_lstm_step`, on a step loop of ours.

    The forget gate's bias starts as 1 (Jozefowicz et al. 2015) and the peepholes as 0: it begins as an LSTM.
    """

    gates = LSTM.gates
    state_type = LSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        *,
        dropout: float = 0.0,
        proj_size: int | None = None,
        output_gate: OutputGate = "updated",
    ) -> None:
        """
        Args:
            input_size: width of x_t.
            hidden_size: width of the state, and of y_t without a projection.
            num_layers: layers, each reading the one below.
            bidirectional: both directions, with weights for each; outputs stand side by side.
            dropout: of the layers below the top one, in training, as in `VariationalDropout`.
            proj_size: width of y_t with a projection inside the recurrence (Sak et al. 2014), as in PyTorch and
                other than in `CharLMConfig`, where it is one above the top layer; none by default.
            output_gate: the cell state that the output gate sees, "updated" (c_t) or "previous" (c_{t-1}).

        Raises:
            CharEmbedError: an argument out of range; proj_size must be below hidden_size.
        """
        if output_gate not in get_args(OutputGate):
            raise CharEmbedError(f"output_gate must be updated or previous, got {output_gate!r}")
        self.output_gate: OutputGate = output_gate
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout=dropout)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(width) | {"weight_ch": (3, self.hidden_size)}

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        self._bias(weights, "forget").fill_(1.0)
        weights["weight_ch"].zero_()

    def _make_kernel(self) -> Kernel:
        return LSTMKernel(self.output_gate)

    def step(self, x: Tensor, state: LSTMState, layer: int = 0, *, reverse: bool = False) -> LSTMState:
        weights = self.layer_parameters(layer, reverse=reverse)
        return peephole_lstm_step(x, state, **weights, output_gate=self.output_gate)


class GRU(Recurrence[HiddenState]):
    """The gated recurrent unit, by `gru_step`, or with `reset_after` by `gru_reset_after_step`.

    Runs on cuDNN on CUDA with `reset_after`, else on a step loop of ours. All biases start as 0: one that keeps the
    state gained nothing (docs/experiments.md).
    """

    gates = ("reset", "update", "candidate")
    state_type = HiddenState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        *,
        dropout: float = 0.0,
        reset_after: bool = False,
    ) -> None:
        """
        Args:
            input_size: width of x_t.
            hidden_size: width of the state, and of y_t without a projection.
            num_layers: layers, each reading the one below.
            bidirectional: both directions, with weights for each; outputs stand side by side.
            dropout: of the layers below the top one, in training, as in `VariationalDropout`.
            reset_after: apply the reset gate after the matrix product, with a bias of its own inside, and swap z and 1
                − z: PyTorch's and cuDNN's variant.

        Raises:
            CharEmbedError: an argument out of range.
        """
        if not isinstance(reset_after, bool):
            raise CharEmbedError(f"reset_after must be true or false, got {reset_after!r}")
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout=dropout)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(width) | ({"bias_hh": (self.hidden_size,)} if self.reset_after else {})

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        if self.reset_after:
            weights["bias_hh"].zero_()

    def _make_kernel(self) -> Kernel:
        return GRUResetAfterKernel() if self.reset_after else GRUKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        step = gru_reset_after_step if self.reset_after else gru_step
        return step(x, state, **self.layer_parameters(layer, reverse=reverse))

    def _run_layer(
        self, packed: Tensor, steps: Steps, state: HiddenState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, HiddenState]:
        if self.reset_after and packed.is_cuda:
            bias_hh = torch.cat([torch.zeros_like(weights["bias"][: 2 * self.hidden_size]), weights["bias_hh"]])
            parameters = [weights["weight_ih"], weights["weight_hh"], weights["bias"], bias_hh]
            return self._run_torch(torch.gru, packed, steps, state, parameters)
        return super()._run_layer(packed, steps, state, weights)


class MGU(Recurrence[HiddenState]):
    """The minimal gated unit, by `mgu_step`, on a step loop of ours: two matrices instead of the LSTM's four.

    All biases start as 0: one that keeps the state would close the reset gate, which is the same gate.
    """

    gates = ("forget", "candidate")
    state_type = HiddenState

    def _make_kernel(self) -> Kernel:
        return GRUKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        return mgu_step(x, state, **self.layer_parameters(layer, reverse=reverse))
