"""A recurrence over all its steps, forward and back through time, without a graph of single steps.

Input products are made for several steps at once beforehand, weight gradients for all steps at once afterwards;
between them only what must be done step by step is. PyTorch has such loops of its own for the LSTM on a CPU (oneDNN)
and for its own cells on CUDA (cuDNN); this is for the rest.

Rows of a packed tensor are the sequences of step 0, then those of step 1, …, the longest sequence first, as in
`torch.nn.utils.rnn.PackedSequence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from charembed.recurrent.cuda_graphs import captured
from charembed.recurrent.products import Products, StepProduct, linear

_BLOCK = 8
"""Steps whose input products are computed at once."""


@dataclass(frozen=True)
class Steps:
    """How many sequences take part in each step, never more than in the step before."""

    sizes: list[int]

    @property
    def batch(self) -> int:
        return self.sizes[0]

    @cached_property
    def _starts(self) -> list[int]:
        """Row at which each step begins."""
        return list(accumulate(self.sizes, initial=0))

    @cached_property
    def _lengths(self) -> list[int]:
        """Steps of each sequence."""
        return [sum(size > column for size in self.sizes) for column in range(self.batch)]

    @property
    def dense(self) -> bool:
        """All sequences are equally long."""
        return self.sizes[-1] == self.sizes[0]

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Views of the single steps. Shape: (sizes[t], …) each"""
        return torch.split(packed, self.sizes)

    def final(self, packed: Tensor) -> Tensor:
        """A copy of each sequence's last row. Shape: (batch, …)"""
        if self.dense:
            return packed[-self.batch :].clone()
        rows = [self._starts[length - 1] + column for column, length in enumerate(self._lengths)]
        return packed[rows]

    def reverse(self, packed: Tensor) -> Tensor:
        """Each sequence from its own end to its start. Shape: that of `packed`"""
        if self.dense:
            return packed.view(len(self.sizes), self.batch, packed.shape[1]).flip(0).flatten(0, 1)
        rows = [
            self._starts[self._lengths[column] - 1 - step] + column
            for step, size in enumerate(self.sizes)
            for column in range(size)
        ]
        return packed[rows]

    def spread(self, rows: Tensor) -> Tensor:
        """One row a sequence, repeated for each of its steps. Shape: (rows of a packed tensor, …)"""
        return torch.cat([rows[:size] for size in self.sizes])

    def earlier(self, packed: Tensor, initial: Tensor) -> Tensor:
        """The rows of one step before, those of step 0 from the initial state. Shape: that of `packed`"""
        pieces = [piece[:size] for piece, size in zip(self.split(packed), self.sizes[1:], strict=False)]
        return torch.cat([initial, *pieces])

    def weight_gradient(self, gradients: Tensor, earlier: Tensor, initial: Tensor) -> Tensor:
        """Σ_t gradients_tᵀ earlier_{t-1}. Shape: (columns of gradients, columns of earlier)"""
        if not self.dense:
            return linear(gradients.t(), self.earlier(earlier, initial).t())
        batch = self.batch  # without a copy of `earlier`
        return linear(gradients[batch:].t(), earlier[:-batch].t()).addmm_(gradients[:batch].t(), initial)

    def passed_back(self, step: int, gradient: Tensor, d_final: Tensor) -> Tensor:
        """What a step says about the state before it, as the step before must hear it.

        Args:
            step: t.
            gradient: of the state before step t, as far as it goes through that step. Shape: (sizes[t], hidden)
            d_final: gradient of the final state, which enters where a sequence ends. Shape: (batch, hidden)

        Returns:
            Shape: (sizes[t - 1], hidden)
        """
        size, wider = self.sizes[step], self.sizes[max(step - 1, 0)]
        return gradient if size == wider else torch.cat([gradient, d_final[size:wider]])


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a step loop works on."""

    steps: Steps
    """How rows are packed."""
    x: Tensor
    """x of all steps, or the distinct ones of them. Shape: (rows, input)"""
    weight_ih: Tensor
    """Shape: (gates · hidden, input)"""
    bias: Tensor
    """Shape: (gates · hidden,)"""
    state: tuple[Tensor, ...]
    """The initial state. Shape: (batch, hidden) each"""
    weights: tuple[Tensor, ...]
    """The recurrent weights."""
    which: Tensor | None = None
    """Where x holds distinct inputs alone: which of them each row reads. Shape: (rows,)"""
    products: Products = field(default_factory=Products)
    """Products with the recurrent weights, which may have been used before."""

    @property
    def rows(self) -> int:
        """Of all steps."""
        return len(self.x if self.which is None else self.which)

    def product(self, weight: Tensor, factor: int = 1) -> StepProduct:
        """The product with a recurrent weight times a factor, for every step."""
        return self.products.of(weight, factor=factor, rows=self.steps.batch, times=len(self.steps.sizes))

    def sums(self, gates: slice = slice(None), *, times: int = 1) -> Iterator[Tensor]:
        """W_i x_t + b step by step: computed for several steps at once, but not for so many that they have left the
        cache when their turn comes. They may be overwritten.

        Args:
            gates: rows of the weight.
            times: factor.

        Yields:
            Shape: (sizes[t], rows of the weight)
        """
        weight, bias, steps = self.weight_ih[gates], self.bias[gates], self.steps.sizes
        if times != 1:
            weight, bias = times * weight, times * bias
        if self.which is not None:
            table = linear(self.x, weight, bias)
            for rows in torch.split(self.which, steps):
                yield table.index_select(0, rows)
            return
        product = StepProduct(weight, bias, rows=_BLOCK * self.steps.batch, times=len(steps))
        start = 0
        for first in range(0, len(steps), _BLOCK):
            sizes = steps[first : first + _BLOCK]
            yield from torch.split(product(self.x[start : start + sum(sizes)]), sizes)
            start += sum(sizes)


class Outputs(NamedTuple):
    """What a step loop gives."""

    output: Tensor
    """y of all steps. Shape: (rows, hidden)"""
    final: tuple[Tensor, ...]
    """The state after each sequence's last step. Shape: (batch, hidden) each"""
    saved: tuple[Tensor, ...] = ()
    """What the way back needs besides."""


class Gradients(NamedTuple):
    """What the way back gives."""

    sums: tuple[Tensor, ...]
    """Of W_i x_t + b of all steps, in blocks of gates. Shape: (rows, gates of the block · hidden) each"""
    state: tuple[Tensor, ...]
    """Of the initial state."""
    weights: tuple[Tensor, ...]
    """Of the recurrent weights."""


class Kernel(Protocol):
    """The step loop of one recurrence. What is captured of it lives as long as it does."""

    def forward(self, inputs: Inputs, *, keep: bool) -> Outputs:
        """All steps.

        Args:
            inputs: state and weights.
            keep: save what the way back needs.
        """

    def backward(self, inputs: Inputs, done: Outputs, d_output: Tensor, d_final: tuple[Tensor, ...]) -> Gradients:
        """Back-propagation through time (Werbos 1990).

        Args:
            inputs: what `forward` was given.
            done: what `forward` returned.
            d_output: gradient of y of all steps. Shape: (rows, hidden)
            d_final: gradient of the final state. Shape: (batch, hidden) each
        """


def run_forward(
    kernel: Kernel, steps: Steps, states: int, tensors: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, ...]:
    """A kernel over all steps; on CUDA as one graph, where its shapes return.

    Args:
        kernel: the recurrence.
        steps: how rows are packed.
        states: how many tensors the state has.
        tensors: x, weight_ih, bias, the initial state and the recurrent weights.
        keep: save what the way back needs.

    Returns:
        y of all steps, the final state, and what is saved.
    """

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, weight_ih, bias, *rest = tensors
        inputs = Inputs(steps, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]))
        done = kernel.forward(inputs, keep=keep)
        return (done.output, *done.final, *done.saved)

    return (
        captured(run, tensors, owner=kernel, key=("forward", len(steps.sizes), keep)) if steps.dense else run(*tensors)
    )


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A step loop stays in the type of its weights: products would be cast, what they are written into would not."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class StepLoop(torch.autograd.Function):
    """A kernel as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, steps: Steps, states: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """`run_forward`, without what is saved."""
        results = run_forward(kernel, steps, states, tensors, keep=True)
        ctx.kernel, ctx.steps, ctx.states, ctx.inputs = kernel, steps, states, len(tensors)
        ctx.save_for_backward(*tensors, results[0], *results[1 + states :])
        return results[: 1 + states]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        kernel, steps, states, count = ctx.kernel, ctx.steps, ctx.states, ctx.inputs
        wants_d_x = ctx.needs_input_grad[3]

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            (x, weight_ih, bias, *rest), (output, *saved) = tensors[:count], tensors[count : -1 - states]
            d_output, *d_final = tensors[-1 - states :]
            inputs = Inputs(steps, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]))
            gradients = kernel.backward(inputs, Outputs(output, (), tuple(saved)), d_output, tuple(d_final))
            d_weight_ih = torch.cat([linear(sums.t(), x.t()) for sums in gradients.sums])
            d_bias = torch.cat([sums.sum(0) for sums in gradients.sums])
            results = (d_weight_ih, d_bias, *gradients.state, *gradients.weights)
            if not wants_d_x:
                return results
            blocks = torch.split(weight_ih, [sums.shape[1] for sums in gradients.sums])
            d_x, *others = (linear(sums, w.t()) for sums, w in zip(gradients.sums, blocks, strict=True))
            for other in others:
                d_x += other
            return (d_x, *results)

        tensors = (*ctx.saved_tensors, *d_outputs)
        key = ("backward", len(steps.sizes), wants_d_x)
        with without_autocast(d_outputs[0].device):
            results = captured(run, tensors, owner=kernel, key=key) if steps.dense else run(*tensors)
        return (None, None, None, *(() if wants_d_x else (None,)), *results)
