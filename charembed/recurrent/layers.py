"""Receives vectors a time step; hands on hidden states a time step. Layers and directions of any recurrence."""

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
from charembed.recurrent.states import LSTMState, S
from charembed.recurrent.step_loop import Kernel, StepLoop, Steps, run_forward, without_autocast


class Recurrence(nn.Module, ABC, Generic[S]):
    """Layers of one recurrence, each reading the one below; in two directions where asked for.

    Input weights are initialised uniformly (Glorot & Bengio 2010), recurrent ones orthogonally (Saxe et al. 2014), gate
    by gate, a projection orthogonally, and biases as zero, unless the recurrence says otherwise.
    """

    gates: ClassVar[tuple[str, ...]]
    """The row blocks of `weight_ih`, `weight_hh` and `bias`, in order."""
    state_type: type[S]

    proj_size: int | None = None
    """Width of y_t where it is a projection inside the recurrence (Sak et al. 2014)."""

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
            input_size: width of x_t.
            hidden_size: width of the state, and of y_t without a projection.
            num_layers: layers, each reading the one below.
            bidirectional: read sequences in both directions, with weights for each; outputs stand side by side.
            dropout: probability with which an output of a layer below the top one is zeroed in training, as in
                `VariationalDropout`.

        Raises:
            CharEmbedError: a size below 1, a dropout outside [0, 1), an option that is neither true nor false.
        """
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        if self.proj_size is not None:
            sizes["proj_size"] = self.proj_size
        for name, size in sizes.items():
            if not hasattr(size, "__index__") or size < 1:
                raise CharEmbedError(f"{name} must be a positive whole number, got {size!r}")
        if self.proj_size is not None and self.proj_size >= hidden_size:
            raise CharEmbedError(f"proj_size must be below hidden_size, {hidden_size}, got {self.proj_size}")
        if not isinstance(bidirectional, bool):
            raise CharEmbedError(f"bidirectional must be true or false, got {bidirectional!r}")
        if not isinstance(dropout, (int, float)) or not 0.0 <= dropout < 1.0:
            raise CharEmbedError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.input_size, self.hidden_size, self.num_layers = map(operator.index, (input_size, hidden_size, num_layers))
        self.bidirectional = bidirectional
        self.dropout = VariationalDropout(dropout)
        for layer, reverse in self.passes:
            width = input_size if layer == 0 else self.output_size
            for name, shape in self._shapes(width).items():
                self.register_parameter(f"{name}_{suffix(layer, reverse)}", nn.Parameter(torch.empty(shape)))
        self.kernel = self._make_kernel()
        self.reset_parameters()

    def extra_repr(self) -> str:
        options = {
            "bidirectional": self.bidirectional,
            "dropout": self.dropout.probability,
            "proj_size": self.proj_size,
        }
        options |= {name: getattr(self, name) for name in ("output_gate", "reset_after") if hasattr(self, name)}
        described = (f"{name}={value}" for name, value in options.items() if value)
        return ", ".join([str(self.input_size), str(self.hidden_size), str(self.num_layers), *described])

    @property
    def directions(self) -> tuple[bool, ...]:
        """Whether each direction is the reverse one."""
        return (False, True) if self.bidirectional else (False,)

    @property
    def passes(self) -> list[tuple[int, bool]]:
        """Layer and direction of each pass over the sequence, in the order of the state."""
        return [(layer, reverse) for layer in range(self.num_layers) for reverse in self.directions]

    @property
    def output_size(self) -> int:
        """Width of the output: of y_t, in both directions side by side."""
        return len(self.directions) * (self.proj_size or self.hidden_size)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of one layer's weights, for an input of that width."""
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
        """The weights of one layer in one direction by name, as its step takes them.

        Raises:
            CharEmbedError: there is no such layer or direction.
        """
        if (layer, reverse) not in self.passes:
            where = f"layer {layer}{' read backwards' if reverse else ''}"
            raise CharEmbedError(f"no {where} in {type(self).__name__}({self.extra_repr()})")
        # Not get_parameter: tools that prune or replicate a module put plain tensors in the place of parameters.
        return {name: getattr(self, f"{name}_{suffix(layer, reverse)}") for name in self._shapes(1)}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all weights anew."""
        for layer, reverse in self.passes:
            weights = self.layer_parameters(layer, reverse=reverse)
            for block in weights["weight_ih"].chunk(len(self.gates)):
                nn.init.xavier_uniform_(block)
            for block in weights["weight_hh"].chunk(len(self.gates)):
                nn.init.orthogonal_(block)
            if "weight_hr" in weights:
                nn.init.orthogonal_(weights["weight_hr"])
            weights["bias"].zero_()
            self._initialise(weights)

    def _initialise(self, weights: dict[str, Tensor]) -> None:
        """What is particular to the recurrence: called last, with one layer's weights in one direction."""

    def _bias(self, weights: dict[str, Tensor], gate: str) -> Tensor:
        """View of one gate's bias. Shape: (hidden,)"""
        return weights["bias"].chunk(len(self.gates))[self.gates.index(gate)]

    def initial_state(self, batch: int) -> S:
        """The zero state, on the device and in the type of the weights."""
        weights = self.layer_parameters(0)
        widths = (weights["weight_hh"].shape[1], self.hidden_size)[: len(self.state_type._fields)]
        return self.state_type(*(weights["bias"].new_zeros(len(self.passes), batch, width) for width in widths))

    @abstractmethod
    def _make_kernel(self) -> Kernel:
        """The step loop of ours."""

    @abstractmethod
    def step(self, x: Tensor, state: S, layer: int = 0, *, reverse: bool = False) -> S:
        """One time step of one layer by its equations: slow, readable, and what `forward` is tested against.

        Args:
            x: x_t. Shape: (batch, width of the layer's input)
            state: that of this layer and direction alone. Shape: (batch, hidden) each
            layer: which.
            reverse: its weights for reading backwards.

        Returns:
            The state after the step, whose `hidden` is y_t.
        """

    def forward(
        self, input: Tensor, state: S | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, S]:
        """Run over sequences.

        Args:
            input: Shape: (seq_len, batch, input_size)
            state: where to start; the zero state by default. Shape: (num_layers · directions, batch, hidden) each
            lengths: steps of each sequence, the rest being padding; all of `seq_len` by default. The reverse direction
                starts at each sequence's own end. In any order. Shape: (batch,)

        Returns:
            The top layer's y_t, forward half first, zero on padding, and the state after each sequence's last step: in
            the reverse direction, after its first. Shape: (seq_len, batch, output_size)

        Raises:
            CharEmbedError: shapes or lengths that do not fit.
        """
        state = self._check(input, state)
        seq_len, batch, _ = input.shape
        if lengths is None or batch == 0:
            steps = Steps([batch] * seq_len)
            output, final = self._run(input.flatten(0, 1), steps, state)
            return output.view(seq_len, batch, self.output_size), final
        try:
            counts = torch.as_tensor(lengths, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            counts = torch.empty(0, device="cpu")
        whole = not counts.is_floating_point() and not counts.is_complex()
        if counts.shape != (batch,) or not whole or not bool(((counts >= 1) & (counts <= seq_len)).all()):
            raise CharEmbedError(f"lengths must be {batch} whole numbers from 1 to {seq_len}, got {lengths}")
        packed = pack_padded_sequence(input, counts.long(), enforce_sorted=False)
        assert packed.sorted_indices is not None
        assert packed.unsorted_indices is not None
        state = self.state_type(*(tensor.index_select(1, packed.sorted_indices) for tensor in state))
        output, final = self._run(packed.data, Steps(packed.batch_sizes.tolist()), state)
        final = self.state_type(*(tensor.index_select(1, packed.unsorted_indices) for tensor in final))
        output, _ = pad_packed_sequence(
            PackedSequence(output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices),
            total_length=seq_len,
        )
        return output, final

    def _check(self, input: Tensor, state: S | None) -> S:
        """Where to start: the given state, or the zero state."""
        if not isinstance(input, Tensor):
            raise CharEmbedError(f"input must be a tensor, got a {type(input).__name__}")
        if input.dim() != 3 or input.shape[0] < 1 or input.shape[2] != self.input_size:
            raise CharEmbedError(
                f"input must be (seq_len, batch, {self.input_size}) with at least one step, got {tuple(input.shape)}"
            )
        zeros = self.initial_state(input.shape[1])
        if state is None:
            state = zeros
        elif not isinstance(state, tuple) or not all(isinstance(tensor, Tensor) for tensor in state):
            name = self.state_type.__name__
            raise CharEmbedError(
                f"state must be {name}({', '.join(zeros._fields)}), got {type(state).__name__};"
                " lengths go by name: lengths="
            )
        elif [tensor.shape for tensor in state] != [tensor.shape for tensor in zeros]:
            wanted = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zeros._asdict().items())
            raise CharEmbedError(f"state must be ({wanted}), got {[tuple(tensor.shape) for tensor in state]}")
        weight = zeros[0]
        if not _autocasts(input.device):
            for name, tensor in zip(("input", *zeros._fields), (input, *state), strict=True):
                if (tensor.dtype, tensor.device) != (weight.dtype, weight.device):
                    found, expected = (f"{t.dtype} on {t.device}" for t in (tensor, weight))
                    raise CharEmbedError(f"{name} is {found}, the weights are {expected}")
        return self.state_type(*state)

    def _run(self, packed: Tensor, steps: Steps, state: S) -> tuple[Tensor, S]:
        """All layers and directions over packed rows. Shape: (rows, input_size) to (rows, output_size)"""
        finals: list[S] = []
        output = packed
        for layer in range(self.num_layers):
            if layer > 0:
                output = self._dropped(output, steps)
            halves = []
            for reverse in self.directions:
                start = self.state_type(*(tensor[len(finals)] for tensor in state))
                weights = self.layer_parameters(layer, reverse=reverse)
                half, final = self._run_layer(steps.reverse(output) if reverse else output, steps, start, weights)
                halves.append(steps.reverse(half) if reverse else half)
                finals.append(final)
            output = torch.cat(halves, dim=1) if self.bidirectional else halves[0]
        return output, self.state_type(*map(torch.stack, zip(*finals, strict=True)))

    def _dropped(self, packed: Tensor, steps: Steps) -> Tensor:
        if not self.training or self.dropout.probability == 0.0:
            return packed
        mask = self.dropout(packed.new_ones(1, steps.batch, packed.shape[1]))[0]
        return packed * steps.spread(mask)

    def _run_layer(self, packed: Tensor, steps: Steps, state: S, weights: dict[str, Tensor]) -> tuple[Tensor, S]:
        """One layer in one direction, by our step loop. Shape: (rows, width) to (rows, hidden)"""
        recurrent = (weight for name, weight in weights.items() if name not in ("weight_ih", "bias"))
        dtype = weights["weight_ih"].dtype
        with without_autocast(packed.device):
            start = (tensor.to(dtype) for tensor in state)
            tensors = (packed.to(dtype), weights["weight_ih"], weights["bias"], *start, *recurrent)
            if torch.is_grad_enabled():
                results = StepLoop.apply(self.kernel, steps, len(state), *tensors)  # type: ignore[no-untyped-call]
            else:
                results = run_forward(self.kernel, steps, len(state), tensors, keep=False)
        return results[0], self.state_type(*results[1:])

    def _run_torch(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        packed: Tensor,
        steps: Steps,
        state: S,
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, S]:
        """A layer by PyTorch's fused loop: `torch.lstm`, `torch.rnn_tanh` or `torch.gru`, with weights in its order."""
        start: Any = (
            [tensor.unsqueeze(0) for tensor in state] if self.state_type is LSTMState else state[0].unsqueeze(0)
        )
        # (…, has_biases, num_layers, dropout, train, bidirectional, batch_first); whether to prepare for gradients does
        # not depend on the mode of the module, which stands for dropout alone
        options = (True, 1, 0.0, torch.is_grad_enabled(), False)
        if steps.dense:
            sequences = packed.view(len(steps.sizes), steps.batch, packed.shape[1])
            output, *final = function(sequences, start, weights, *options, False)
            output = output.flatten(0, 1)
        else:
            output, *final = function(packed, torch.tensor(steps.sizes), start, weights, *options)
        return output, self.state_type(*(tensor.squeeze(0) for tensor in final))


def suffix(layer: int, reverse: bool) -> str:
    """How the names of one layer's weights in one direction end, here and in PyTorch."""
    return f"l{layer}_reverse" if reverse else f"l{layer}"


def _autocasts(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
