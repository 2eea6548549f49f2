"""The five recurrences: their weights, their initialisation, and which implementation runs them where.

Each class names its gates and its step function in `charembed.recurrent.equations`. A layer runs on PyTorch's fused
loop (`_run_fused`) where PyTorch has one that computes these equations, and on the step loop of this package
elsewhere, on CUDA with the operations between two products fused where Triton is installed:

| recurrence       | CPU                                               | CUDA                                       |
| ---------------- | ------------------------------------------------- | ------------------------------------------ |
| ElmanRNN         | step loop                                         | cuDNN                                      |
| LSTM             | oneDNN; with lengths PyTorch's loop if the state  | cuDNN                                      |
|                  | is small and no gradients are needed, otherwise   |                                            |
|                  | step loop; step loop with projection              |                                            |
| PeepholeLSTM     | step loop                                         | fused step loop; step loop with projection |
| GRU              | step loop                                         | fused step loop                            |
| GRU, reset_after | step loop                                         | cuDNN                                      |
| MGU              | step loop                                         | fused step loop                            |
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.recurrent.autocast import runs_fused_on_cpu
from charembed.recurrent.equations import (
    elman_step,
    gru_reset_after_step,
    gru_step,
    lstm_step,
    mgu_step,
    peephole_lstm_step,
)
from charembed.recurrent.fused_kernels import FusedGRUKernel, FusedPeepholeLSTMKernel
from charembed.recurrent.gru_kernels import GRUKernel, GRUResetAfterKernel
from charembed.recurrent.input_checks import check_flag
from charembed.recurrent.kernels import ElmanKernel, LSTMKernel
from charembed.recurrent.layers import Recurrence
from charembed.recurrent.packed_layout import PackedLayout
from charembed.recurrent.states import HiddenState, LSTMState
from charembed.recurrent.step_loop import Kernel
from charembed.recurrent.weight_pieces import in_one_piece

OutputGate = Literal["updated", "previous"]
_SMALL_HIDDEN_SIZE = 256
"""Size of the state up to which PyTorch's loop over sequences of unequal lengths is faster on a CPU."""


class ElmanRNN(Recurrence[HiddenState]):
    """The simple recurrent network (Elman 1990): `elman_step`."""

    gates = ("output",)
    state_type = HiddenState

    def _make_kernel(self) -> Kernel:
        return ElmanKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        return elman_step(x, state, **self.layer_parameters(layer, reverse=reverse))

    def _run_layer(
        self, packed: Tensor, layout: PackedLayout, state: HiddenState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, HiddenState]:
        if packed.is_cuda:
            return self._run_fused(torch.rnn_tanh, packed, layout, state, in_one_piece(**weights))
        return super()._run_layer(packed, layout, state, weights)


class LSTM(Recurrence[LSTMState]):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000): `lstm_step`.

    The bias of the forget gate is initialised to 1 (Jozefowicz et al. 2015).
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
            input_size: Width of x_t.
            hidden_size: Width of the state, and of y_t without a projection.
            num_layers: Number of layers, each reading the output of the one below.
            bidirectional: Whether to read in both directions, with separate weights, and concatenate the outputs.
            dropout: Dropout of the outputs of the layers below the top one, as in `VariationalDropout`.
            proj_size: Width of y_t with a projection inside the recurrence (Sak et al. 2014), as in PyTorch; no
                projection by default. (In `CharLMConfig`, the projection is above the top layer instead.)

        Raises:
            CharEmbedError: An argument is out of range; proj_size must be smaller than hidden_size.
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
        self, packed: Tensor, layout: PackedLayout, state: LSTMState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, LSTMState]:
        if not packed.is_cuda and not (self._is_fast_fused(layout) and runs_fused_on_cpu()):
            return super()._run_layer(packed, layout, state, weights)
        if packed.is_cuda and self.proj_size is None:
            return self._run_fused(torch.lstm, packed, layout, state, in_one_piece(**weights))
        # PyTorch adds two biases; this LSTM has one, so the second is zero. A projection comes last. cuDNN does not say
        # where it expects one, so those weights are not put into one piece.
        weight_ih, weight_hh, bias, *projection = weights.values()
        parameters = [weight_ih, weight_hh, bias, torch.zeros_like(bias), *projection]
        return self._run_fused(torch.lstm, packed, layout, state, parameters)

    def _is_fast_fused(self, layout: PackedLayout) -> bool:
        """Return whether PyTorch's loop on a CPU is faster than the step loop."""
        if self.proj_size is not None:
            return False
        # oneDNN has no LSTM with lengths, so PyTorch runs a loop of its own. It calls few operators in a step, which
        # counts where the products are small.
        return layout.is_dense or (self.hidden_size <= _SMALL_HIDDEN_SIZE and not torch.is_grad_enabled())


class PeepholeLSTM(Recurrence[LSTMState]):
    """The LSTM whose gates see the cell state (Gers & Schmidhuber 2000): `peephole_lstm_step`.

    The bias of the forget gate is initialised to 1 (Jozefowicz et al. 2015) and the peepholes to 0, so that training
    starts from an LSTM.
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
            input_size: Width of x_t.
            hidden_size: Width of the state, and of y_t without a projection.
            num_layers: Number of layers, each reading the output of the one below.
            bidirectional: Whether to read in both directions, with separate weights, and concatenate the outputs.
            dropout: Dropout of the outputs of the layers below the top one, as in `VariationalDropout`.
            proj_size: Width of y_t with a projection inside the recurrence (Sak et al. 2014), as in PyTorch; no
                projection by default. (In `CharLMConfig`, the projection is above the top layer instead.)
            output_gate: Cell state that the output gate sees, "updated" (c_t) or "previous" (c_{t-1}).

        Raises:
            CharEmbedError: An argument is out of range; proj_size must be smaller than hidden_size.
        """
        if output_gate not in get_args(OutputGate):
            raise CharEmbedError(f"output_gate must be 'updated' or 'previous', got {output_gate!r}")
        self.output_gate: OutputGate = output_gate
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout=dropout)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, output_gate={self.output_gate}"

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(width) | {"weight_ch": (3, self.hidden_size)}

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        self._bias(weights, "forget").fill_(1.0)
        weights["weight_ch"].zero_()

    def _make_kernel(self) -> Kernel:
        return LSTMKernel(self.output_gate)

    def _make_fused_kernel(self) -> Kernel | None:
        return FusedPeepholeLSTMKernel(self.output_gate == "updated") if self.proj_size is None else None

    def step(self, x: Tensor, state: LSTMState, layer: int = 0, *, reverse: bool = False) -> LSTMState:
        weights = self.layer_parameters(layer, reverse=reverse)
        return peephole_lstm_step(x, state, **weights, output_gate=self.output_gate)


class GRU(Recurrence[HiddenState]):
    """The gated recurrent unit (Cho et al. 2014): `gru_step`, or with `reset_after`, `gru_reset_after_step`.

    All biases are initialised to 0: a bias of the update gate that keeps the state gained nothing
    (docs/experiments.md).
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
            input_size: Width of x_t.
            hidden_size: Width of the state, and of y_t without a projection.
            num_layers: Number of layers, each reading the output of the one below.
            bidirectional: Whether to read in both directions, with separate weights, and concatenate the outputs.
            dropout: Dropout of the outputs of the layers below the top one, as in `VariationalDropout`.
            reset_after: Whether to compute the variant of PyTorch and cuDNN: the reset gate is applied after the matrix
                product, which has a bias of its own, and z and 1 − z are swapped.

        Raises:
            CharEmbedError: An argument is out of range.
        """
        check_flag("reset_after", reset_after)
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout=dropout)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reset_after=True" if self.reset_after else "")

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(width) | ({"bias_hh": (self.hidden_size,)} if self.reset_after else {})

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        if self.reset_after:
            weights["bias_hh"].zero_()

    def _make_kernel(self) -> Kernel:
        return GRUResetAfterKernel() if self.reset_after else GRUKernel()

    def _make_fused_kernel(self) -> Kernel | None:
        return None if self.reset_after else FusedGRUKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        step = gru_reset_after_step if self.reset_after else gru_step
        return step(x, state, **self.layer_parameters(layer, reverse=reverse))

    def _run_layer(
        self, packed: Tensor, layout: PackedLayout, state: HiddenState, weights: dict[str, Tensor]
    ) -> tuple[Tensor, HiddenState]:
        if self.reset_after and packed.is_cuda:
            # PyTorch adds a second bias to each gate; only the candidate's, the last one, has an effect of its own.
            return self._run_fused(torch.gru, packed, layout, state, in_one_piece(**weights))
        return super()._run_layer(packed, layout, state, weights)


class MGU(Recurrence[HiddenState]):
    """The minimal gated unit (Zhou et al. 2016): `mgu_step`. It has two recurrent matrices where the LSTM has four.

    All biases are initialised to 0: a bias that keeps the state would also close the reset gate, which is the same
    gate.
    """

    gates = ("forget", "candidate")
    state_type = HiddenState

    def _make_kernel(self) -> Kernel:
        return GRUKernel()

    def _make_fused_kernel(self) -> Kernel | None:
        return FusedGRUKernel()

    def step(self, x: Tensor, state: HiddenState, layer: int = 0, *, reverse: bool = False) -> HiddenState:
        return mgu_step(x, state, **self.layer_parameters(layer, reverse=reverse))
