"""The step loops of the recurrences, forward and back through time.

Each kernel computes what the function of the same name in `charembed.recurrent.equations` computes, for all time steps
of one layer; `charembed.recurrent.step_loop` explains what surrounds it. Three conventions make the loops fast:

- Results are written in place or into memory allocated for all steps beforehand, so that a step allocates little.
- The forward loop starts from the input product W_i x_t + b of each step and adds the recurrent product to it, which
  gives the pre-activation of each gate.
- tanh(x) is cheapest as `tanh_of_half(2 x)`. Where a gate's weights are multiplied by 2 beforehand (`factor=2`), its
  pre-activations arrive doubled; elsewhere they are doubled in place. Doubling is exact.

The backward loops run from the last step to the first. They carry d_y, the gradient of y_t that comes from the later
steps (LSTMs carry d_c too), add the gradient of the output at step t, and write the gradient of the pre-activations of
step t. The gradient of a recurrent weight follows after the loop, in one product over all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from charembed.recurrent.activations import sigmoid_backward, tanh, tanh_backward, tanh_of_half
from charembed.recurrent.packed_layout import PackedLayout
from charembed.recurrent.products import linear
from charembed.recurrent.step_loop import LoopGradients, LoopInputs, LoopOutputs


@dataclass(eq=False)
class ElmanKernel:
    """`elman_step`. Recurrent weights: weight_hh."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:  # noqa: ARG002 - saves nothing
        layout, (y,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        recurrent_product = inputs.recurrent_product(weight_hh, factor=2)
        output = y.new_empty(layout.rows, y.shape[1])
        for input_product, y_t in zip(inputs.input_products(factor=2), layout.split(output), strict=True):
            y = tanh_of_half(recurrent_product(y[: len(y_t)], input_product), out=y_t)
        return LoopOutputs(output, (layout.last_rows(output),))

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        recurrent_product = inputs.recurrent_product(weight_hh.t())
        d_preactivations = torch.empty_like(outputs.output)
        steps = list(zip(*map(layout.split, (d_output, outputs.output, d_preactivations)), strict=True))
        d_y = d_final[0][: layout.batch_sizes[-1]]
        for t, (d_output_t, y_t, d_preactivations_t) in reversed(list(enumerate(steps))):
            # y_t = tanh(pre-activation), then y_{t-1} through the recurrent product
            tanh_backward(d_y + d_output_t, y_t, grad_input=d_preactivations_t)
            d_y = layout.previous_state_gradient(t, recurrent_product(d_preactivations_t), d_final[0])
        d_weight_hh = layout.recurrent_weight_gradient(d_preactivations, outputs.output, initial)
        return LoopGradients((d_preactivations,), (d_y,), (d_weight_hh,))


@dataclass(eq=False)
class LSTMKernel:
    """`lstm_step` and `peephole_lstm_step`. Recurrent weights: weight_hh, weight_hr if projected, weight_ch if
    peepholes."""

    peepholes: Literal["updated", "previous"] | None = None
    """Cell state that the output gate sees through its peephole, c_t or c_{t-1}; None for an LSTM without peepholes."""

    def _unpack(self, weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return weight_hh, weight_hr and weight_ch."""
        weight_hh, *rest = weights
        weight_ch = rest.pop() if self.peepholes else None
        return weight_hh, rest[0] if rest else None, weight_ch

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        layout, (y, c) = inputs.layout, inputs.initial_state
        weight_hh, weight_hr, weight_ch = self._unpack(inputs.recurrent_weights)
        hidden = c.shape[1]
        recurrent_product = inputs.recurrent_product(weight_hh)
        project = None if weight_hr is None else inputs.recurrent_product(weight_hr)

        # Memory for all steps: y_t, and for the backward pass i, f, g, o, c_t and the output before the projection.
        output = y.new_empty(layout.rows, y.shape[1])
        activations, step_activations = layout.allocate(c, 4 * hidden, needed=save_for_backward)
        cells, step_cells = layout.allocate(c, hidden, needed=save_for_backward)
        save_unprojected = save_for_backward and project is not None
        unprojected, step_unprojected = layout.allocate(c, hidden, needed=save_unprojected)

        final_c = c.clone()  # updated in place; sequences that have ended keep their last cell state
        for input_product, gates, c_t, unprojected_t, y_t in zip(
            inputs.input_products(), step_activations, step_cells, step_unprojected, layout.split(output), strict=True
        ):
            # Pre-activations of i, f, g and o, with the peepholes that see the previous cell state.
            size = len(input_product)
            preactivations = recurrent_product(y[:size], input_product).view(size, 4, hidden)
            gates = preactivations if gates is None else gates.view(size, 4, hidden)
            cell = final_c[:size]
            i, f, g, o = gates.unbind(1)
            if weight_ch is not None:
                preactivations[:, :2].addcmul_(cell.unsqueeze(1), weight_ch[:2])
                if self.peepholes == "previous":
                    preactivations[:, 3].addcmul_(cell, weight_ch[2])
            # c_t = f ⊙ c_{t-1} + i ⊙ g
            torch.sigmoid(preactivations[:, :2], out=gates[:, :2])
            tanh_of_half(preactivations[:, 2].mul_(2), out=g)
            cell.mul_(f).addcmul_(i, g)
            if c_t is not None:
                c_t.copy_(cell)
            # y_t = o ⊙ tanh(c_t), then the projection
            if weight_ch is not None and self.peepholes == "updated":
                preactivations[:, 3].addcmul_(cell, weight_ch[2])
            torch.sigmoid(preactivations[:, 3], out=o)
            y = tanh(cell, out=cell.new_empty(size, hidden) if project else y_t).mul_(o)
            if project is not None:
                if unprojected_t is not None:
                    unprojected_t.copy_(y)
                y = y_t.copy_(project(y))
        return LoopOutputs(output, (layout.last_rows(output), final_c), (*activations, *cells, *unprojected))

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial_y, initial_c) = inputs.layout, inputs.initial_state
        weight_hh, weight_hr, weight_ch = self._unpack(inputs.recurrent_weights)
        activations, cells, *unprojected = outputs.saved
        hidden = cells.shape[1]
        recurrent_product = inputs.recurrent_product(weight_hh.t())
        project = None if weight_hr is None else inputs.recurrent_product(weight_hr.t())

        d_projected, step_d_projected = layout.allocate(d_output, d_output.shape[1], needed=project is not None)
        d_preactivations = torch.empty_like(activations)
        step_tensors = map(layout.split, (d_output, activations, cells, d_preactivations))
        steps = list(zip(*step_tensors, step_d_projected, strict=True))
        # Start from the sequences that run to the last step; the others join where they end.
        d_y, d_c = (d[: layout.batch_sizes[-1]] for d in d_final)
        for t, (d_output_t, gates, c_t, d_preactivations_t, d_projected_t) in reversed(list(enumerate(steps))):
            size = len(gates)
            previous_c = initial_c if t == 0 else steps[t - 1][2][:size]
            i, f, g, o = gates.view(size, 4, hidden).unbind(1)
            d_i, d_f, d_g, d_o = d_preactivations_t.view(size, 4, hidden).unbind(1)
            # The output: d_m is the gradient of m = o ⊙ tanh(c_t), before the projection.
            d_m = torch.add(d_y, d_output_t, out=d_projected_t)
            if project is not None:
                d_m = project(d_m)
            tanh_c = tanh(c_t, out=torch.empty_like(c_t))
            sigmoid_backward(d_m * tanh_c, o, grad_input=d_o)
            d_c = d_c + tanh_backward(d_m.mul_(o), tanh_c, grad_input=tanh_c)
            if weight_ch is not None and self.peepholes == "updated":
                d_c.addcmul_(d_o, weight_ch[2])
            # The cell state: c_t = f ⊙ c_{t-1} + i ⊙ g
            sigmoid_backward(d_c * g, i, grad_input=d_i)
            sigmoid_backward(d_c * previous_c, f, grad_input=d_f)
            tanh_backward(d_c * i, g, grad_input=d_g)
            # The state before: c_{t-1} through the cell and the peepholes, y_{t-1} through the recurrent product.
            d_c.mul_(f)
            if weight_ch is not None:
                d_c.addcmul_(d_i, weight_ch[0]).addcmul_(d_f, weight_ch[1])
                if self.peepholes == "previous":
                    d_c.addcmul_(d_o, weight_ch[2])
            d_y = layout.previous_state_gradient(t, recurrent_product(d_preactivations_t), d_final[0])
            d_c = layout.previous_state_gradient(t, d_c, d_final[1])

        d_weights = [layout.recurrent_weight_gradient(d_preactivations, outputs.output, initial_y)]
        if project is not None:
            d_weights.append(linear(d_projected[0].t(), unprojected[0].t()))
        if weight_ch is not None:
            updated = self.peepholes == "updated"
            d_weights.append(peephole_gradient(layout, d_preactivations, cells, initial_c, updated=updated))
        return LoopGradients((d_preactivations,), (d_y, d_c), tuple(d_weights))


def peephole_gradient(
    layout: PackedLayout, d_preactivations: Tensor, cells: Tensor, initial_c: Tensor, *, updated: bool
) -> Tensor:
    """Compute the gradient of weight_ch.

    Args:
        layout: layout of the packed tensors.
        d_preactivations: gradient of the pre-activations of i, f, g and o. Shape: (rows, 4 · hidden)
        cells: c_t of all time steps. Shape: (rows, hidden)
        initial_c: cell state before step 0. Shape: (batch, hidden)
        updated: whether the output gate sees c_t, not c_{t-1}.

    Returns:
        Shape: (3, hidden)
    """
    d_i, d_f, _, d_o = d_preactivations.view(-1, 4, cells.shape[1]).unbind(1)
    previous_cells = layout.previous_rows(cells, initial_c)
    seen_by_o = cells if updated else previous_cells
    return torch.stack([(d_i * previous_cells).sum(0), (d_f * previous_cells).sum(0), (d_o * seen_by_o).sum(0)])
