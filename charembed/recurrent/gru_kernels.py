"""The step loops of the GRU in both variants and of the MGU; see `charembed.recurrent.kernels` for the conventions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from charembed.recurrent.activations import sigmoid, sigmoid_backward, tanh_backward, tanh_of_half
from charembed.recurrent.products import linear
from charembed.recurrent.step_loop import LoopGradients, LoopInputs, LoopOutputs


@dataclass(eq=False)
class GRUKernel:
    """`gru_step`, and `mgu_step` where weight_hh has one gate besides the candidate. Recurrent weights: weight_hh."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        layout, (y,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        hidden = y.shape[1]
        # The candidate's recurrent product has to wait for the reset gate, so gates and candidate have a product each.
        gate_rows, candidate_rows = slice(None, -hidden), slice(-hidden, None)
        gate_product = inputs.recurrent_product(weight_hh[gate_rows])
        candidate_product = inputs.recurrent_product(weight_hh[candidate_rows], factor=2)
        step_inputs = zip(
            inputs.input_products(gate_rows), inputs.input_products(candidate_rows, factor=2), strict=True
        )

        output = y.new_empty(layout.rows, hidden)
        gates, step_gates = layout.allocate(y, len(weight_hh) - hidden, needed=save_for_backward)
        candidates, step_candidates = layout.allocate(y, hidden, needed=save_for_backward)
        for (gate_input, candidate_input), g, h, y_t in zip(
            step_inputs, step_gates, step_candidates, layout.split(output), strict=True
        ):
            y = y[: len(y_t)]
            g = sigmoid(gate_product(y, gate_input), out=g)
            r, z = g[:, :hidden], g[:, -hidden:]  # the same gate in an MGU
            h = tanh_of_half(candidate_product(r * y, candidate_input), out=h)
            y = torch.lerp(y, h, z, out=y_t)  # (1 − z) ⊙ y_{t-1} + z ⊙ h
        return LoopOutputs(output, (layout.last_rows(output),), (*gates, *candidates))

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial,), (weight_hh,) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        gates, candidates = outputs.saved
        hidden = initial.shape[1]
        is_mgu = len(weight_hh) == 2 * hidden
        gate_product = inputs.recurrent_product(weight_hh[:-hidden].t())
        candidate_product = inputs.recurrent_product(weight_hh[-hidden:].t())

        d_gates, d_candidates = torch.empty_like(gates), torch.empty_like(candidates)
        tensors = (d_output, outputs.output, gates, candidates, d_gates, d_candidates)
        steps = list(zip(*map(layout.split, tensors), strict=True))
        d_y = d_final[0][: layout.batch_sizes[-1]]
        for t, (d_output_t, _, g, h, d_g, d_h) in reversed(list(enumerate(steps))):
            previous_y = initial if t == 0 else steps[t - 1][1][: len(h)]
            r, z = g[:, :hidden], g[:, -hidden:]
            # The mixture: y_t = (1 − z) ⊙ y_{t-1} + z ⊙ h
            d_y = d_y + d_output_t
            d_y_z = d_y * z
            d_reset = candidate_product(tanh_backward(d_y_z, h, grad_input=d_h))  # gradient of r ⊙ y_{t-1}
            d_r, d_z = d_reset * previous_y, (h - previous_y).mul_(d_y)
            # The gates; the one gate of an MGU receives both gradients.
            if is_mgu:
                sigmoid_backward(d_r.add_(d_z), r, grad_input=d_g)
            else:
                sigmoid_backward(d_r, r, grad_input=d_g[:, :hidden])
                sigmoid_backward(d_z, z, grad_input=d_g[:, hidden:])
            # y_{t-1}, through the mixture (d_y ⊙ (1 − z)), the reset product and the gates.
            d_y = gate_product(d_g, d_y.sub_(d_y_z).addcmul_(d_reset, r))
            d_y = layout.previous_state_gradient(t, d_y, d_final[0])

        d_gate_weights = layout.recurrent_weight_gradient(d_gates, outputs.output, initial)
        reset_y = layout.previous_rows(outputs.output, initial).mul_(gates[:, :hidden])  # r ⊙ y_{t-1}
        d_candidate_weights = linear(d_candidates.t(), reset_y.t())
        return LoopGradients((d_gates, d_candidates), (d_y,), (torch.cat([d_gate_weights, d_candidate_weights]),))


@dataclass(eq=False)
class GRUResetAfterKernel:
    """`gru_reset_after_step`. Recurrent weights: weight_hh, bias_hh."""

    def forward(self, inputs: LoopInputs, *, save_for_backward: bool) -> LoopOutputs:
        layout, (y,), (weight_hh, bias_hh) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        hidden = y.shape[1]
        recurrent_product = inputs.recurrent_product(weight_hh)

        # Memory for all steps: y_t, and for the backward pass r, z, h and W_hh y_{t-1} + b_hh, which r is applied to.
        output = y.new_empty(layout.rows, hidden)
        activations, step_activations = layout.allocate(y, 3 * hidden, needed=save_for_backward)
        resettable, step_resettable = layout.allocate(y, hidden, needed=save_for_backward)
        for input_product, gates, resettable_t, y_t in zip(
            inputs.input_products(), step_activations, step_resettable, layout.split(output), strict=True
        ):
            y = y[: len(y_t)]
            preactivations = recurrent_product(y)
            gates = input_product if gates is None else gates
            # r and z
            rz = preactivations[:, : 2 * hidden].add_(input_product[:, : 2 * hidden])
            rz = torch.sigmoid(rz, out=gates[:, : 2 * hidden])
            # h = tanh(W_ih x_t + b_h + r ⊙ (W_hh y_{t-1} + b_hh))
            resettable_t = torch.add(preactivations[:, 2 * hidden :], bias_hh, out=resettable_t)
            doubled = input_product[:, 2 * hidden :].addcmul_(rz[:, :hidden], resettable_t).mul_(2)
            h = tanh_of_half(doubled, out=gates[:, 2 * hidden :])
            y = torch.lerp(h, y, rz[:, hidden:], out=y_t)  # (1 − z) ⊙ h + z ⊙ y_{t-1}
        return LoopOutputs(output, (layout.last_rows(output),), (*activations, *resettable))

    def backward(
        self, inputs: LoopInputs, outputs: LoopOutputs, d_output: Tensor, d_final: tuple[Tensor, ...]
    ) -> LoopGradients:
        layout, (initial,), (weight_hh, _) = inputs.layout, inputs.initial_state, inputs.recurrent_weights
        activations, resettable = outputs.saved
        hidden = initial.shape[1]
        recurrent_product = inputs.recurrent_product(weight_hh.t())

        # The gradient of the recurrent product W_h y_{t-1}. It is that of the input product, except in the candidate's
        # block: there r lies between the two, so the candidate's input gradient is kept apart and put in at the end.
        d_recurrent = torch.empty_like(activations)
        d_candidates = torch.empty_like(resettable)
        tensors = (d_output, outputs.output, activations, resettable, d_candidates, d_recurrent)
        steps = list(zip(*map(layout.split, tensors), strict=True))
        d_y = d_final[0][: layout.batch_sizes[-1]]
        for t, (d_output_t, _, gates, resettable_t, d_h, d_recurrent_t) in reversed(list(enumerate(steps))):
            size = len(d_h)
            previous_y = initial if t == 0 else steps[t - 1][1][:size]
            r, z, h = gates.view(size, 3, hidden).unbind(1)
            d_r, d_z, d_resettable = d_recurrent_t.view(size, 3, hidden).unbind(1)
            # The mixture: y_t = (1 − z) ⊙ h + z ⊙ y_{t-1}
            d_y = d_y + d_output_t
            d_y_z = d_y * z
            sigmoid_backward((previous_y - h).mul_(d_y), z, grad_input=d_z)
            tanh_backward(d_y.sub_(d_y_z), h, grad_input=d_h)
            # The reset product r ⊙ (W_hh y_{t-1} + b_hh)
            sigmoid_backward(d_h * resettable_t, r, grad_input=d_r)
            torch.mul(d_h, r, out=d_resettable)
            # y_{t-1}, through the mixture and the recurrent product.
            d_y = layout.previous_state_gradient(t, recurrent_product(d_recurrent_t, d_y_z), d_final[0])

        d_weight_hh = layout.recurrent_weight_gradient(d_recurrent, outputs.output, initial)
        d_bias_hh = d_recurrent[:, 2 * hidden :].sum(0)
        d_input = d_recurrent
        d_input[:, 2 * hidden :] = d_candidates
        return LoopGradients((d_input,), (d_y,), (d_weight_hh, d_bias_hh))
