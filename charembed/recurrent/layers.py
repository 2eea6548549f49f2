"""The base class of the recurrences: layers, directions, states and padded sequences.

`Recurrence.forward` packs the sequences, and `_run_layers` runs each layer in each direction over the packed rows. A
layer runs either on PyTorch's own fused loop (`_run_fused`) or on the step loop of this package (`_run_layer`, see
`charembed.recurrent.step_loop`); the classes in `charembed.recurrent.cells` choose.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from charembed.errors import CharEmbedError
from charembed.recurrent.dropout import VariationalDropout
from charembed.recurrent.fused_kernels import runs_fused
from charembed.recurrent.input_checks import (
    check_dropout,
    check_flag,
    check_input,
    check_lengths,
    check_sizes,
    check_state,
    check_types,
)
from charembed.recurrent.packed_layout import PackedLayout
from charembed.recurrent.states import LSTMState, S
from charembed.recurrent.step_loop import Kernel, StepLoopFunction, run_forward, without_autocast


class Recurrence(nn.Module, ABC, Generic[S]):
    """A recurrence of one or more layers, each reading the output of the one below, in one direction or both.

    Input weights are initialised uniformly (Glorot & Bengio 2010), recurrent weights orthogonally (Saxe et al. 2014),
    both gate by gate; a projection is initialised orthogonally, and biases are zero unless a subclass says otherwise.
    """

    gates: ClassVar[tuple[str, ...]]
    """Row blocks of `weight_ih`, `weight_hh` and `bias`, in order."""
    state_type: type[S]
    """Type of the state, `HiddenState` or `LSTMState`."""

    proj_size: int | None = None
    """Width of y_t where it is projected inside the recurrence (Sak et al. 2014); None without a projection."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        *,
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            input_size: Width of x_t.
            hidden_size: Width of the state, and of y_t without a projection.
            num_layers: Number of layers, each reading the output of the one below.
            bidirectional: Whether to read sequences in both directions, with separate weights, and concatenate the
                outputs.
            dropout: Probability with which an output of a layer below the top one is zeroed in training, as in
                `VariationalDropout`.

        Raises:
            CharEmbedError: A size is not a positive integer, dropout is outside [0, 1), or an option is not a bool.
        """
        super().__init__()
        check_sizes(input_size, hidden_size, num_layers, self.proj_size)
        check_flag("bidirectional", bidirectional)
        check_dropout(dropout)
        self.input_size, self.hidden_size, self.num_layers = map(operator.index, (input_size, hidden_size, num_layers))
        self.bidirectional = bidirectional
        self.dropout = VariationalDropout(dropout)
        # The weights are named as in PyTorch, for example weight_ih_l0 and weight_ih_l0_reverse.
        for layer, reverse in self.passes:
            width = input_size if layer == 0 else self.output_size
            for name, shape in self._shapes(width).items():
                self.register_parameter(f"{name}_{suffix(layer, reverse)}", nn.Parameter(torch.empty(shape)))
        self.kernel = self._make_kernel()
        self.fused_kernel = self._make_fused_kernel()
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Return the sizes, and the options that differ from their defaults."""
        options = {
            "bidirectional": self.bidirectional,
            "dropout": self.dropout.probability,
            "proj_size": self.proj_size,
        }
        described = (f"{name}={value}" for name, value in options.items() if value)
        return ", ".join([str(self.input_size), str(self.hidden_size), str(self.num_layers), *described])

    @property
    def directions(self) -> tuple[bool, ...]:
        """Directions of reading, each True if it is the reverse one."""
        return (False, True) if self.bidirectional else (False,)

    @property
    def passes(self) -> list[tuple[int, bool]]:
        """Layer and direction of each pass over the sequences, in the order of the state's first dimension."""
        return [(layer, reverse) for layer in range(self.num_layers) for reverse in self.directions]

    @property
    def output_size(self) -> int:
        """Width of the output: that of y_t, twice if bidirectional."""
        return len(self.directions) * (self.proj_size or self.hidden_size)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of one layer that reads inputs of the given width."""
        rows = len(self.gates) * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, width),
            "weight_hh": (rows, self.proj_size or self.hidden_size),
            "bias": (rows,),
        }
        if self.proj_size is not None:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def layer_parameters(self, layer: int, *, reverse: bool = False) -> dict[str, Tensor]:
        """Return the weights of one layer in one direction by name, as its step function takes them.

        Raises:
            CharEmbedError: There is no such layer or direction.
        """
        if (layer, reverse) not in self.passes:
            direction = "reverse" if reverse else "forward"
            raise CharEmbedError(
                f"{type(self).__name__}({self.extra_repr()}) has no layer {layer} in {direction} direction"
            )
        # Not get_parameter: tools that prune or replicate a module replace its parameters with plain tensors.
        return {name: getattr(self, f"{name}_{suffix(layer, reverse)}") for name in self._shapes(1)}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all weights."""
        for layer, reverse in self.passes:
            weights = self.layer_parameters(layer, reverse=reverse)
            if weights["weight_ih"].is_meta:
                return  # there are no values, but orthogonal_ of PyTorch 2.8 would import the compiler
            # Gate by gate: the initialisers would take the stacked gates for one matrix.
            for block in weights["weight_ih"].chunk(len(self.gates)):
                nn.init.xavier_uniform_(block)
            for block in weights["weight_hh"].chunk(len(self.gates)):
                nn.init.orthogonal_(block)
            if "weight_hr" in weights:
                nn.init.orthogonal_(weights["weight_hr"])
            weights["bias"].zero_()
            self._initialise(weights)

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        """Initialise what is particular to a subclass. Called last, with the weights of one layer in one direction."""

    def _bias(self, weights: dict[str, Tensor], gate: str) -> Tensor:
        """Return a view of the bias of one gate. Shape: (hidden,)"""
        return weights["bias"].chunk(len(self.gates))[self.gates.index(gate)]

    def initial_state(self, batch: int) -> S:
        """Return the zero state, on the device and in the type of the weights."""
        weights = self.layer_parameters(0)
        # y_t has the width that weight_hh reads, which is that of the projection if there is one; c_t is always hidden.
        widths = (weights["weight_hh"].shape[1], self.hidden_size)[: len(self.state_type._fields)]
        return self.state_type(*(weights["bias"].new_zeros(len(self.passes), batch, width) for width in widths))

    @abstractmethod
    def _make_kernel(self) -> Kernel:
        """Return the step loop of this recurrence."""

    def _make_fused_kernel(self) -> Kernel | None:
        """Return the step loop that runs in place of `kernel` where a GPU runs Triton, if there is one."""
        return None

    @abstractmethod
    def step(self, x: Tensor, state: S, layer: int = 0, *, reverse: bool = False) -> S:
        """Compute one time step of one layer by its equations. Slow and readable: `forward` is tested against it.

        Args:
            x: x_t. Shape: (batch, width of the layer's input)
            state: State of this layer and direction alone. Shape: (batch, hidden) each
            layer: Number of the layer.
            reverse: Whether to use the weights of the reverse direction.

        Returns:
            The state after the step, whose `hidden` is y_t.
        """

    def forward(
        self, input: Tensor, state: S | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, S]:
        """Run over a batch of sequences.

        Args:
            input: Shape: (seq_len, batch, input_size)
            state: Initial state; the zero state by default. Shape: (num_layers · directions, batch, hidden) each
            lengths: Number of time steps of each sequence, in any order; the rest is padding. All of `seq_len` by
                default. The reverse direction starts at each sequence's own end. Shape: (batch,)

        Returns:
            The output y_t of the top layer, forward half first, zero on padding, and the state after the last time step
            of each sequence (in the reverse direction, after its first). Shape: (seq_len, batch, output_size)

        Raises:
            CharEmbedError: Shapes, types, devices or lengths do not match.
        """
        check_input(input, self.input_size)
        seq_len, batch, _ = input.shape
        zeros = self.initial_state(batch)  # also the shapes, type and device that a state has to have
        state = zeros if state is None else check_state(state, zeros)
        check_types(input, state, weight=zeros[0])
        if lengths is not None and batch > 0:
            return self._run_padded(input, state, check_lengths(lengths, seq_len, batch))
        output, final = self._run_layers(input.flatten(0, 1), PackedLayout([batch] * seq_len), state)
        return output.view(seq_len, batch, self.output_size), final

    def _run_padded(self, input: Tensor, state: S, lengths: Tensor) -> tuple[Tensor, S]:
        """Run over padded sequences of given lengths."""
        # Pack, which sorts the sequences by length; the state has to follow.
        packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
        assert packed.sorted_indices is not None
        assert packed.unsorted_indices is not None
        state = self.state_type(*(tensor.index_select(1, packed.sorted_indices) for tensor in state))
        output, final = self._run_layers(packed.data, PackedLayout(packed.batch_sizes.tolist()), state)
        # Unpack, back in the order of the caller.
        final = self.state_type(*(tensor.index_select(1, packed.unsorted_indices) for tensor in final))
        output, _ = pad_packed_sequence(
            PackedSequence(output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices),
            total_length=input.shape[0],
        )
        return output, final

    def _run_layers(self, packed: Tensor, layout: PackedLayout, state: S) -> tuple[Tensor, S]:
        """Run all layers in all directions over packed rows. Shape: (rows, input_size) to (rows, output_size)"""
        finals: list[S] = []
        output = packed
        for layer in range(self.num_layers):
            if layer > 0:
                output = self._drop_out(output, layout)
            halves = []
            for reverse in self.directions:
                initial = self.state_type(*(tensor[len(finals)] for tensor in state))
                weights = self.layer_parameters(layer, reverse=reverse)
                # The reverse direction reads reversed sequences; its output is reversed back.
                layer_input = layout.reverse(output) if reverse else output
                half, final = self._run_layer(layer_input, layout, initial, weights)
                halves.append(layout.reverse(half) if reverse else half)
                finals.append(final)
            output = torch.cat(halves, dim=1) if self.bidirectional else halves[0]
        return output, self.state_type(*map(torch.stack, zip(*finals, strict=True)))

    def _drop_out(self, packed: Tensor, layout: PackedLayout) -> Tensor:
        """Apply dropout between two layers, in training, with one mask for each sequence."""
        if not self.training or self.dropout.probability == 0.0:
            return packed
        # The dropout module draws the mask, so that its generator is used.
        mask = self.dropout(packed.new_ones(1, layout.batch, packed.shape[1]))[0]
        return packed * layout.repeat_over_steps(mask)

    def _run_layer(
        self, packed: Tensor, layout: PackedLayout, state: S, weights: dict[str, Tensor]
    ) -> tuple[Tensor, S]:
        """Run one layer in one direction on the step loop of this package. Shape: (rows, width) to (rows, hidden)"""
        recurrent_weights = (weight for name, weight in weights.items() if name not in ("weight_ih", "bias"))
        # Under autocast, inputs may have another type than the weights; the loop computes in that of the weights.
        dtype = weights["weight_ih"].dtype
        kernel = self.kernel
        if self.fused_kernel is not None and runs_fused(weights["weight_ih"]):
            kernel = self.fused_kernel
        with without_autocast(packed.device):
            initial = (tensor.to(dtype) for tensor in state)
            tensors = (packed.to(dtype), weights["weight_ih"], weights["bias"], *initial, *recurrent_weights)
            if torch.is_grad_enabled():
                results = StepLoopFunction.apply(kernel, layout, len(state), *tensors)  # type: ignore[no-untyped-call]
            else:
                results = run_forward(kernel, layout, len(state), tensors, save_for_backward=False)
        return results[0], self.state_type(*results[1:])

    def _run_fused(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        packed: Tensor,
        layout: PackedLayout,
        state: S,
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, S]:
        """Run one layer in one direction on PyTorch's fused loop.

        Args:
            function: `torch.lstm`, `torch.rnn_tanh` or `torch.gru`.
            packed: Inputs. Shape: (rows, width)
            layout: Layout of the packed rows.
            state: Initial state. Shape: (batch, hidden) each
            weights: Weights of the layer in the order of the function.

        Returns:
            The output and the final state. Shape: (rows, hidden)
        """
        initial: Any = (
            [tensor.unsqueeze(0) for tensor in state] if self.state_type is LSTMState else state[0].unsqueeze(0)
        )
        # has_biases, num_layers, dropout, train, bidirectional, and for dense sequences batch_first. `train` also makes
        # cuDNN prepare for the backward pass, which is needed whenever gradients are, in evaluation mode too.
        options = (True, 1, 0.0, torch.is_grad_enabled(), False)
        if layout.is_dense:
            sequences = packed.view(layout.seq_len, layout.batch, packed.shape[1])
            output, *final = function(sequences, initial, weights, *options, False)
            output = output.flatten(0, 1)
        else:
            output, *final = function(packed, torch.tensor(layout.batch_sizes), initial, weights, *options)
        return output, self.state_type(*(tensor.squeeze(0) for tensor in final))


def suffix(layer: int, reverse: bool) -> str:
    """Return the suffix of the names of one layer's weights in one direction, the same as PyTorch's."""
    return f"l{layer}_reverse" if reverse else f"l{layer}"
