"""Run a recurrence over all time steps, forward and back through time, as one node of the autograd graph.

Running the equations step by step under autograd would record thousands of small operations. Here, a layer is one node:

1. The input products W_i x_t + b are computed for several steps at once (`LoopInputs.input_products`).
2. A `Kernel` runs the loop over the steps, which does only what depends on the state before: the recurrent product and
   the gates. It saves the activations for the backward pass.
3. The backward loop computes the gradient of each step's pre-activations. The gradients of the weights and of x then
   follow from a few large products over all steps (`StepLoopFunction.backward`).

On CUDA, loops over sequences of equal length run as CUDA graphs. PyTorch has loops of this kind for the LSTM on a CPU
(oneDNN) and for its own recurrences on CUDA (cuDNN); `Recurrence` uses those where they exist, and this module
elsewhere.

All tensors of several steps are packed: see `charembed.recurrent.packed_layout`. Gradients of the loss are named d_….
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from charembed.recurrent.cuda_graphs import run_captured
from charembed.recurrent.packed_layout import PackedLayout
from charembed.recurrent.products import ProductCache, StepProduct, linear

_STEPS_PER_BLOCK = 8
"""Number of time steps whose input products are computed at once. More steps would leave the cache before they are
read."""


@dataclass(frozen=True, eq=False)
class LoopInputs:
    """What the loop over the time steps of one layer reads."""

    layout: PackedLayout
    """Layout of the packed tensors."""
    x: Tensor
    """Inputs x_t of all time steps; with `row_ids`, the distinct ones among them. Shape: (rows, input_size)"""
    weight_ih: Tensor
    """Shape: (gates · hidden, input_size)"""
    bias: Tensor
    """Shape: (gates · hidden,)"""
    initial_state: tuple[Tensor, ...]
    """State before the first time step. Shape: (batch, hidden) each"""
    recurrent_weights: tuple[Tensor, ...]
    """The other weights of the layer, in the order in which the kernel documents them."""
    row_ids: Tensor | None = None
    """Row of x that each time step of each sequence reads; None where x has them all in order. Shape: (rows,)"""
    products: ProductCache = field(default_factory=ProductCache)
    """Products with the recurrent weights, possibly kept from earlier calls."""

    def recurrent_product(self, weight: Tensor, factor: int = 1) -> StepProduct:
        """Return the function h ↦ factor · h Wᵀ for use in every time step."""
        return self.products.get(weight, factor=factor, rows=self.layout.batch, calls=self.layout.seq_len)

    def input_products(self, gates: slice = slice(None), *, factor: int = 1) -> Iterator[Tensor]:
        """Compute factor · (W_i x_t + b) for each time step. The caller may overwrite them.

        Args:
            gates: Rows of `weight_ih` and `bias` to use.
            factor: Integer by which the result is multiplied.

        Yields:
            Shape: (batch_sizes[t], number of rows in `gates`)
        """
        weight, bias, batch_sizes = self.weight_ih[gates], self.bias[gates], self.layout.batch_sizes
        rows = _STEPS_PER_BLOCK * self.layout.batch
        product = self.products.get(weight, bias, factor=factor, rows=rows, calls=len(batch_sizes))
        # Distinct inputs: one product for each of them, which the steps look up.
        if self.row_ids is not None:
            table = product(self.x)
            for row_ids in torch.split(self.row_ids, batch_sizes):
                yield table.index_select(0, row_ids)
            return
        # Otherwise one product for a block of steps, small enough to stay in the cache until the loop has read it.
        start = 0
        for first in range(0, len(batch_sizes), _STEPS_PER_BLOCK):
            sizes = batch_sizes[first : first + _STEPS_PER_BLOCK]
            yield from torch.split(product(self.x[start : start + sum(sizes)]), sizes)
            start += sum(sizes)


class LoopOutputs(NamedTuple):
    """What the forward loop returns."""

    output: Tensor
    """y_t of all time steps. Shape: (rows, hidden)"""
    final_state: tuple[Tensor, ...]
    """State after each sequence's last time step. Shape: (batch, hidden) each"""
    saved: tuple[Tensor, ...] = ()
    """Activations that the backward loop needs besides the output. Shape: (rows, …) each"""


class LoopGradients(NamedTuple):
    """What the backward loop returns: gradients of the loss."""

    input_products: tuple[Tensor, ...]
    """Gradient of W_i x_t + b at all time steps, in blocks of gates. Shape: (rows, gates of the block · hidden) each"""
    initial_state: tuple[Tensor, ...]
    """Gradient of the initial state. Shape: (batch, hidden) each"""
    recurrent_weights: tuple[Tensor, ...]
    """Gradients of `LoopInputs.recurrent_weights`."""


class Kernel(Protocol):
    """The loop over the time steps of one recurrence. Its CUDA graphs are freed with it."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        """Run all time steps.

        Args:
            inputs: Inputs, initial state and weights.
            save_for_backward: Whether to save the activations that `backward` needs.
        """

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        """Back-propagate through time (Werbos 1990).

        Args:
            inputs: Argument of `forward`.
            outputs: Result of `forward` with `save_for_backward`; `final_state` is not read.
            d_output: Gradient of y_t at all time steps. Shape: (rows, hidden)
            d_final: Gradient of the final state. Shape: (batch, hidden) each
        """


def run_forward(
    kernel: Kernel, layout: PackedLayout, num_states: int, tensors: Sequence[Tensor], *, save_for_backward: bool
) -> tuple[Tensor, ...]:
    """Run the forward loop of a kernel; on CUDA as one graph where sequences are equally long.

    Args:
        kernel: Loop of the recurrence.
        layout: Layout of the packed tensors.
        num_states: Number of tensors in the state.
        tensors: x, weight_ih, bias, the tensors of the initial state and the recurrent weights.
        save_for_backward: Whether to save the activations that the backward loop needs.

    Returns:
        y_t of all time steps, the tensors of the final state, and the saved activations.
    """

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = kernel.forward(_loop_inputs(layout, num_states, tensors), save_for_backward=save_for_backward)
        return (outputs.output, *outputs.final_state, *outputs.saved)

    if not layout.is_dense:  # there are too many combinations of lengths for a graph each
        return run(*tensors)
    return run_captured(run, tensors, owner=kernel, key=("forward", layout.seq_len, save_for_backward))


def _loop_inputs(layout: PackedLayout, num_states: int, tensors: Sequence[Tensor]) -> LoopInputs:
    """Take apart the tensors that `run_forward` receives."""
    x, weight_ih, bias, *rest = tensors
    return LoopInputs(layout, x, weight_ih, bias, tuple(rest[:num_states]), tuple(rest[num_states:]))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which autocast is off.

    A step loop computes in the type of its weights: autocast would cast its products, but not the tensors that they are
    written to.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class StepLoopFunction(torch.autograd.Function):
    """A kernel as one node of the autograd graph. It can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, layout: PackedLayout, num_states: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the results of `run_forward` except the saved activations."""
        results = run_forward(kernel, layout, num_states, tensors, save_for_backward=True)
        # The backward loop reads the output and the saved activations, but not the final state.
        ctx.kernel, ctx.layout, ctx.num_states, ctx.num_inputs = kernel, layout, num_states, len(tensors)
        ctx.save_for_backward(*tensors, results[0], *results[1 + num_states :])
        return results[: 1 + num_states]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of `forward`."""
        kernel, layout, num_states, num_inputs = ctx.kernel, ctx.layout, ctx.num_states, ctx.num_inputs
        needs_d_x = ctx.needs_input_grad[3]

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            # The loop, back through time.
            inputs = _loop_inputs(layout, num_states, tensors[:num_inputs])
            output, *saved = tensors[num_inputs : -1 - num_states]
            d_output, *d_final = tensors[-1 - num_states :]
            gradients = kernel.backward(inputs, LoopOutputs(output, (), tuple(saved)), d_output, tuple(d_final))

            # The gradients of the input weights, over all steps at once.
            d_weight_ih = torch.cat([linear(block.t(), inputs.x.t()) for block in gradients.input_products])
            d_bias = torch.cat([block.sum(0) for block in gradients.input_products])
            results = (d_weight_ih, d_bias, *gradients.initial_state, *gradients.recurrent_weights)
            if not needs_d_x:
                return results

            # The gradient of x, the sum over the blocks of gates.
            weights = torch.split(inputs.weight_ih, [block.shape[1] for block in gradients.input_products])
            d_x, *others = (linear(block, w.t()) for block, w in zip(gradients.input_products, weights, strict=True))
            for other in others:
                d_x += other
            return (d_x, *results)

        tensors = (*ctx.saved_tensors, *d_outputs)
        key = ("backward", layout.seq_len, needs_d_x)
        with without_autocast(d_outputs[0].device):
            results = run_captured(run, tensors, owner=kernel, key=key) if layout.is_dense else run(*tensors)
        no_d_x = () if needs_d_x else (None,)
        return (None, None, None, *no_d_x, *results)
