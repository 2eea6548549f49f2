"""Step loops for a GPU whose time steps are matrix products and one launch between them.

On a GPU, the operations between the products of a step take longer to launch than to compute. These loops do them in
one launch (`charembed.recurrent.triton_steps`) and add the products in place to the input products, so that a step of a
peephole LSTM is two launches, and one of a GRU four. They compute what the loops of the same recurrences in `kernels`
and `gru_kernels` compute, which run elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from charembed.recurrent.kernels import peephole_gradient
from charembed.recurrent.products import linear
from charembed.recurrent.step_loop import LoopGradients, LoopInputs, LoopOutputs

logger = logging.getLogger(__name__)

_BLOCK = 256
"""Number of elements that one program computes."""


def runs_fused(tensor: Tensor) -> bool:
    """Return whether fused loops run on the device of a tensor and in its type."""
    is_supported = tensor.dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    return tensor.is_cuda and is_supported and _triton_works(tensor.device)


@cache
def _triton_works(device: torch.device) -> bool:
    """Return whether Triton compiles for a device and computes correctly there.

    It is optional, and it needs a C compiler and a device that it supports: try it before trusting it.
    """
    try:
        with torch.cuda.device(device):
            gates, state = torch.zeros(1, 8, device=device), torch.ones(1, 4, device=device)
            y = torch.empty_like(state)
            _launch("gru_output_forward", y, gates, state, y, blocks=2)
            return y.tolist() == [[0.5] * 4]  # z = 0.5 and h = 0
    except Exception as error:  # of Triton, of the compiler or of the driver
        logger.info("Triton cannot be used on %s, step loops run operation by operation: %s", device, error)
        return False


@cache
def _steps() -> tuple[ModuleType, Any]:
    """Return the functions of a time step and the types of Triton."""
    return import_module("charembed.recurrent.triton_steps"), import_module("triton.language")


def _launch(name: str, state: Tensor, *tensors: Tensor, **constants: object) -> None:
    """Run a function of `triton_steps` on all elements of a state. Shape: (rows, hidden)"""
    if not state.numel():
        return
    steps, types = _steps()
    computed_in = types.float64 if state.dtype == torch.float64 else types.float32
    grid = (-(-state.numel() // _BLOCK),)
    getattr(steps, name)[grid](*tensors, state.numel(), state.shape[1], dtype=computed_in, block=_BLOCK, **constants)


def _on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which the device of a tensor is the current one, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _preactivations(inputs: LoopInputs, *, needed: bool) -> tuple[tuple[Tensor, ...], Iterable[Tensor]]:
    """Compute W_i x_t + b, which the steps turn into activations in place.

    Args:
        inputs: inputs of the loop.
        needed: whether the activations of all steps are needed afterwards.

    Returns:
        A tuple of the tensor of all steps, empty if it is not needed, and the tensor of each step.
    """
    if not needed:
        return (), inputs.input_products()
    packed = linear(inputs.x, inputs.weight_ih, inputs.bias)
    return (packed,), inputs.layout.split(packed)


@dataclass(eq=False)
class FusedPeepholeLSTMKernel:
    """`peephole_lstm_step` without a projection. Recurrent weights: weight_hh, weight_ch."""

    updated: bool
    """Whether the output gate sees c_t, not c_{t-1}."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        layout, (y, c), (weight_hh, weight_ch) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        weight_ch, c = weight_ch.contiguous(), c.contiguous()
        output, cells = y.new_empty(layout.rows, y.shape[1]), c.new_empty(layout.rows, c.shape[1])
        activations, step_gates = _preactivations(inputs, needed=save_for_backward)
        with _on_device_of(y):
            for gates, c_t, y_t in zip(step_gates, layout.split(cells), layout.split(output), strict=True):
                gates.addmm_(y[: len(y_t)], weight_hh.t())
                _launch("peephole_lstm_forward", c_t, gates, c, weight_ch, c_t, y_t, updated=self.updated)
                y, c = y_t, c_t
        saved = (*activations, cells) if save_for_backward else ()
        return LoopOutputs(output, (layout.last_rows(output), layout.last_rows(cells)), saved)

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial_y, initial_c) = inputs.layout, inputs.initial_state
        weight_hh, weight_ch = inputs.recurrent_weights
        weight_ch = weight_ch.contiguous()
        activations, cells = outputs.saved
        d_preactivations = torch.empty_like(activations)
        tensors = (d_output.contiguous(), activations, cells, d_preactivations)
        steps = list(zip(*map(layout.split, tensors), strict=True))
        size = layout.batch_sizes[-1]
        d_y, d_c = d_final[0][:size].contiguous(), d_final[1][:size].clone(memory_format=torch.contiguous_format)
        with _on_device_of(d_output):
            for t, (d_output_t, gates, c_t, d_gates) in reversed(list(enumerate(steps))):
                previous_c = initial_c.contiguous() if t == 0 else steps[t - 1][2]
                _launch(
                    "peephole_lstm_backward",
                    c_t,
                    *(d_output_t, d_y, d_c, gates, c_t, previous_c, weight_ch, d_gates),
                    updated=self.updated,
                )
                d_y = layout.previous_state_gradient(t, d_gates @ weight_hh, d_final[0])
                d_c = layout.previous_state_gradient(t, d_c, d_final[1])
        d_weight_hh = layout.recurrent_weight_gradient(d_preactivations, outputs.output, initial_y)
        d_weight_ch = peephole_gradient(layout, d_preactivations, cells, initial_c, updated=self.updated)
        return LoopGradients((d_preactivations,), (d_y, d_c), (d_weight_hh, d_weight_ch))


@dataclass(eq=False)
class FusedGRUKernel:
    """`gru_step`, and `mgu_step` where weight_hh has one gate besides the candidate. Recurrent weights: weight_hh."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        layout, (y,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        y, hidden = y.contiguous(), y.shape[1]
        blocks = len(weight_hh) // hidden
        gate_weights, candidate_weights = weight_hh[:-hidden].t(), weight_hh[-hidden:].t()
        output, reset_y = y.new_empty(layout.rows, hidden), torch.empty_like(y)
        activations, step_gates = _preactivations(inputs, needed=save_for_backward)
        with _on_device_of(y):
            for gates, y_t in zip(step_gates, layout.split(output), strict=True):
                reset_y_t = reset_y[: len(y_t)]
                gates[:, :-hidden].addmm_(y[: len(y_t)], gate_weights)
                _launch("gru_gates_forward", y_t, gates, y, reset_y_t, blocks=blocks)
                gates[:, -hidden:].addmm_(reset_y_t, candidate_weights)
                _launch("gru_output_forward", y_t, gates, y, y_t, blocks=blocks)
                y = y_t
        return LoopOutputs(output, (layout.last_rows(output),), activations)

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        (activations,) = outputs.saved
        initial, hidden = initial.contiguous(), initial.shape[1]
        blocks = len(weight_hh) // hidden
        gate_weights, candidate_weights = weight_hh[:-hidden], weight_hh[-hidden:]
        d_preactivations = torch.empty_like(activations)
        tensors = (d_output.contiguous(), outputs.output, activations, d_preactivations)
        steps = list(zip(*map(layout.split, tensors), strict=True))
        d_y = d_final[0][: layout.batch_sizes[-1]].clone(memory_format=torch.contiguous_format)
        with _on_device_of(d_output):
            for t, (d_output_t, y_t, gates, d_gates) in reversed(list(enumerate(steps))):
                previous_y = initial if t == 0 else steps[t - 1][1]
                _launch("gru_output_backward", y_t, d_output_t, d_y, gates, d_gates, blocks=blocks)
                d_reset_y = d_gates[:, -hidden:] @ candidate_weights
                _launch("gru_gates_backward", y_t, d_reset_y, d_y, gates, previous_y, d_gates, blocks=blocks)
                d_y = d_y.addmm_(d_gates[:, :-hidden], gate_weights)
                d_y = layout.previous_state_gradient(t, d_y, d_final[0])
        d_gate_weights = layout.recurrent_weight_gradient(d_preactivations[:, :-hidden], outputs.output, initial)
        reset_y = layout.previous_rows(outputs.output, initial).mul_(activations[:, :hidden])
        d_candidate_weights = linear(d_preactivations[:, -hidden:].t(), reset_y.t())
        return LoopGradients((d_preactivations,), (d_y,), (torch.cat([d_gate_weights, d_candidate_weights]),))
