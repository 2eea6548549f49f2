"""The step loops of ours: each recurrence forward over all steps, and back through time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor

from charembed.recurrent.products import linear
from charembed.recurrent.step_loop import Gradients, Inputs, Outputs, Steps

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


_MINUS_ONE = torch.tensor(-1.0, dtype=torch.float32, device="cpu")


def _tanh_of_half(x: Tensor, out: Tensor | None) -> Tensor:
    """tanh(x / 2), overwriting x, and put there where no other place is given.

    In float32 on a CPU as 2 σ(x) − 1, four times as fast as PyTorch's own: right to 2e-7, which is much of a value as
    small as that, and nothing to a state whose units reach 1.
    """
    out = x if out is None else out
    if x.dtype == torch.float32 and x.device.type == "cpu":
        return torch.add(_MINUS_ONE, x.sigmoid_(), alpha=2, out=out)
    return torch.tanh(x.mul_(0.5), out=out)


def _tanh(x: Tensor, out: Tensor) -> Tensor:
    """As above, of x itself, which stays."""
    return _tanh_of_half(torch.mul(x, 2, out=out), out)


def _sigmoid(x: Tensor, out: Tensor | None) -> Tensor:
    """σ(x), put in the place of x where no other is given."""
    return torch.sigmoid(x, out=x if out is None else out)


def _room(keep: bool, like: Tensor, rows: int, width: int, steps: Steps) -> tuple[tuple[Tensor, ...], Iterable[Any]]:
    """Room for what the way back needs of every step, and each step's part of it; no room if nothing is to be kept."""
    if not keep:
        return (), repeat(None, len(steps.sizes))
    room = like.new_empty(rows, width)
    return (room,), steps.split(room)


@dataclass(eq=False)
class ElmanKernel:
    """`elman_step`. Weights: weight_hh."""

    def forward(self, inputs: Inputs, *, keep: bool) -> Outputs:  # noqa: ARG002 - the output is all that is needed
        steps, (y,), (weight_hh,) = inputs.steps, inputs.state, inputs.weights
        recurrent = inputs.product(weight_hh, 2)
        output = y.new_empty(inputs.rows, y.shape[1])
        for sums, y_t in zip(inputs.sums(times=2), steps.split(output), strict=True):
            y = _tanh_of_half(recurrent(y[: len(y_t)], sums), out=y_t)
        return Outputs(output, (steps.final(output),))

    def backward(self, inputs: Inputs, done: Outputs, d_output: Tensor, d_final: tuple[Tensor, ...]) -> Gradients:
        steps, (initial,), (weight_hh,) = inputs.steps, inputs.state, inputs.weights
        recurrent = inputs.product(weight_hh.t())
        d_sums = torch.empty_like(done.output)
        each = list(zip(*map(steps.split, (d_output, done.output, d_sums)), strict=True))
        d_y = d_final[0][: steps.sizes[-1]]
        for t, (d_output_t, y_t, d_sums_t) in reversed(list(enumerate(each))):
            _tanh_backward(d_y + d_output_t, y_t, grad_input=d_sums_t)
            d_y = steps.passed_back(t, recurrent(d_sums_t), d_final[0])
        return Gradients((d_sums,), (d_y,), (steps.weight_gradient(d_sums, done.output, initial),))


@dataclass(eq=False)
class LSTMKernel:
    """`lstm_step` and `peephole_lstm_step`. Weights: weight_hh, if projected weight_hr, if peepholes weight_ch."""

    peepholes: Literal["updated", "previous"] | None = None
    """The cell state that the output gate sees, c_t or c_{t-1}; without peepholes none."""

    def _parts(self, weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """weight_hh, weight_hr and weight_ch."""
        weight_hh, *rest = weights
        weight_ch = rest.pop() if self.peepholes else None
        return weight_hh, rest[0] if rest else None, weight_ch

    def forward(self, inputs: Inputs, *, keep: bool) -> Outputs:
        steps, (y, c) = inputs.steps, inputs.state
        weight_hh, weight_hr, weight_ch = self._parts(inputs.weights)
        rows, width = inputs.rows, c.shape[1]
        recurrent = inputs.product(weight_hh)
        project = None if weight_hr is None else inputs.product(weight_hr)
        output = y.new_empty(rows, y.shape[1])
        activations, each_gates = _room(keep, c, rows, 4 * width, steps)
        cells, each_cell = _room(keep, c, rows, width, steps)
        unprojected, each_unprojected = _room(keep and project is not None, c, rows, width, steps)
        final_c = c.clone()
        for sums, gates, c_t, m_t, y_t in zip(
            inputs.sums(), each_gates, each_cell, each_unprojected, steps.split(output), strict=True
        ):
            size = len(sums)
            totals = recurrent(y[:size], sums).view(size, 4, width)
            gates = totals if gates is None else gates.view(size, 4, width)
            cell = final_c[:size]
            i, f, g, o = gates.unbind(1)
            if weight_ch is not None:
                totals[:, :2].addcmul_(cell.unsqueeze(1), weight_ch[:2])
                if self.peepholes == "previous":
                    totals[:, 3].addcmul_(cell, weight_ch[2])
            torch.sigmoid(totals[:, :2], out=gates[:, :2])
            _tanh_of_half(totals[:, 2].mul_(2), out=g)
            cell.mul_(f).addcmul_(i, g)
            if weight_ch is not None and self.peepholes == "updated":
                totals[:, 3].addcmul_(cell, weight_ch[2])
            torch.sigmoid(totals[:, 3], out=o)
            if c_t is not None:
                c_t.copy_(cell)
            y = _tanh(cell, out=cell.new_empty(size, width) if project else y_t).mul_(o)
            if project is not None:
                if m_t is not None:
                    m_t.copy_(y)
                y = y_t.copy_(project(y))
        return Outputs(output, (steps.final(output), final_c), (*activations, *cells, *unprojected))

    def backward(self, inputs: Inputs, done: Outputs, d_output: Tensor, d_final: tuple[Tensor, ...]) -> Gradients:
        steps, (initial_y, initial_c) = inputs.steps, inputs.state
        weight_hh, weight_hr, weight_ch = self._parts(inputs.weights)
        activations, cells, *unprojected = done.saved
        width = cells.shape[1]
        recurrent = inputs.product(weight_hh.t())
        project = None if weight_hr is None else inputs.product(weight_hr.t())
        d_projected, each_d_projected = _room(project is not None, d_output, len(d_output), d_output.shape[1], steps)
        d_sums = torch.empty_like(activations)
        each = list(zip(*map(steps.split, (d_output, activations, cells, d_sums)), each_d_projected, strict=True))
        d_y, d_c = (d[: steps.sizes[-1]] for d in d_final)
        for t, (d_output_t, gates, c_t, d_sums_t, d_projected_t) in reversed(list(enumerate(each))):
            size = len(gates)
            before = initial_c if t == 0 else each[t - 1][2][:size]
            i, f, g, o = gates.view(size, 4, width).unbind(1)
            d_i, d_f, d_g, d_o = d_sums_t.view(size, 4, width).unbind(1)
            d_m = torch.add(d_y, d_output_t, out=d_projected_t)
            if project is not None:
                d_m = project(d_m)
            tanh_c = _tanh(c_t, out=torch.empty_like(c_t))
            _sigmoid_backward(d_m * tanh_c, o, grad_input=d_o)
            d_c = d_c + _tanh_backward(d_m.mul_(o), tanh_c, grad_input=tanh_c)
            if weight_ch is not None and self.peepholes == "updated":
                d_c.addcmul_(d_o, weight_ch[2])
            _sigmoid_backward(d_c * g, i, grad_input=d_i)
            _sigmoid_backward(d_c * before, f, grad_input=d_f)
            _tanh_backward(d_c * i, g, grad_input=d_g)
            d_c.mul_(f)
            if weight_ch is not None:
                d_c.addcmul_(d_i, weight_ch[0]).addcmul_(d_f, weight_ch[1])
                if self.peepholes == "previous":
                    d_c.addcmul_(d_o, weight_ch[2])
            d_y = steps.passed_back(t, recurrent(d_sums_t), d_final[0])
            d_c = steps.passed_back(t, d_c, d_final[1])

        d_weights = [steps.weight_gradient(d_sums, done.output, initial_y)]
        if project is not None:
            d_weights.append(linear(d_projected[0].t(), unprojected[0].t()))
        if weight_ch is not None:
            d_i, d_f, _, d_o = d_sums.view(-1, 4, width).unbind(1)
            earlier = steps.earlier(cells, initial_c)
            seen_by_o = cells if self.peepholes == "updated" else earlier
            d_weights.append(torch.stack([(d_i * earlier).sum(0), (d_f * earlier).sum(0), (d_o * seen_by_o).sum(0)]))
        return Gradients((d_sums,), (d_y, d_c), tuple(d_weights))


@dataclass(eq=False)
class GRUKernel:
    """`gru_step` and, where one gate stands for both, `mgu_step`. Weights: weight_hh."""

    def forward(self, inputs: Inputs, *, keep: bool) -> Outputs:
        steps, (y,), (weight_hh,) = inputs.steps, inputs.state, inputs.weights
        rows, width = inputs.rows, y.shape[1]
        of_gates, of_candidate = slice(None, -width), slice(-width, None)
        to_gates, to_candidate = inputs.product(weight_hh[of_gates]), inputs.product(weight_hh[of_candidate], 2)
        output = y.new_empty(rows, width)
        gates, each_gates = _room(keep, y, rows, len(weight_hh) - width, steps)
        candidates, each_candidate = _room(keep, y, rows, width, steps)
        each_sums = zip(inputs.sums(of_gates), inputs.sums(of_candidate, times=2), strict=True)
        for (sums, doubled_sums), g, h, y_t in zip(
            each_sums, each_gates, each_candidate, steps.split(output), strict=True
        ):
            y = y[: len(y_t)]
            g = _sigmoid(to_gates(y, sums), out=g)
            r, z = g[:, :width], g[:, -width:]
            h = _tanh_of_half(to_candidate(r * y, doubled_sums), out=h)
            y = torch.lerp(y, h, z, out=y_t)
        return Outputs(output, (steps.final(output),), (*gates, *candidates))

    def backward(self, inputs: Inputs, done: Outputs, d_output: Tensor, d_final: tuple[Tensor, ...]) -> Gradients:
        steps, (initial,), (weight_hh,) = inputs.steps, inputs.state, inputs.weights
        gates, candidates = done.saved
        width = initial.shape[1]
        tied = len(weight_hh) == 2 * width
        from_gates, from_candidate = inputs.product(weight_hh[:-width].t()), inputs.product(weight_hh[-width:].t())
        d_gates, d_candidates = torch.empty_like(gates), torch.empty_like(candidates)
        tensors = (d_output, done.output, gates, candidates, d_gates, d_candidates)
        each = list(zip(*map(steps.split, tensors), strict=True))
        d_y = d_final[0][: steps.sizes[-1]]
        for t, (d_output_t, _, g, h, d_g, d_h) in reversed(list(enumerate(each))):
            before = initial if t == 0 else each[t - 1][1][: len(h)]
            r, z = g[:, :width], g[:, -width:]
            d_y = d_y + d_output_t
            through_z = d_y * z
            d_reset = from_candidate(_tanh_backward(through_z, h, grad_input=d_h))  # of r ⊙ y_{t-1}
            d_r, d_z = d_reset * before, (h - before).mul_(d_y)
            if tied:
                _sigmoid_backward(d_r.add_(d_z), r, grad_input=d_g)
            else:
                _sigmoid_backward(d_r, r, grad_input=d_g[:, :width])
                _sigmoid_backward(d_z, z, grad_input=d_g[:, width:])
            d_y = from_gates(d_g, d_y.sub_(through_z).addcmul_(d_reset, r))
            d_y = steps.passed_back(t, d_y, d_final[0])

        d_gate_weights = steps.weight_gradient(d_gates, done.output, initial)
        reset = steps.earlier(done.output, initial).mul_(gates[:, :width])
        d_candidate_weights = linear(d_candidates.t(), reset.t())
        return Gradients((d_gates, d_candidates), (d_y,), (torch.cat([d_gate_weights, d_candidate_weights]),))


@dataclass(eq=False)
class GRUResetAfterKernel:
    """`gru_reset_after_step`. Weights: weight_hh and bias_hh."""

    def forward(self, inputs: Inputs, *, keep: bool) -> Outputs:
        steps, (y,), (weight_hh, bias_hh) = inputs.steps, inputs.state, inputs.weights
        rows, width = inputs.rows, y.shape[1]
        recurrent = inputs.product(weight_hh)
        output = y.new_empty(rows, width)
        activations, each_gates = _room(keep, y, rows, 3 * width, steps)
        resettable, each_resettable = _room(keep, y, rows, width, steps)
        for sums, gates, reset_t, y_t in zip(
            inputs.sums(), each_gates, each_resettable, steps.split(output), strict=True
        ):
            y = y[: len(y_t)]
            totals = recurrent(y)
            gates = sums if gates is None else gates
            rz = torch.sigmoid(totals[:, : 2 * width].add_(sums[:, : 2 * width]), out=gates[:, : 2 * width])
            reset_t = torch.add(totals[:, 2 * width :], bias_hh, out=reset_t)
            doubled = sums[:, 2 * width :].addcmul_(rz[:, :width], reset_t).mul_(2)
            h = _tanh_of_half(doubled, out=gates[:, 2 * width :])
            y = torch.lerp(h, y, rz[:, width:], out=y_t)
        return Outputs(output, (steps.final(output),), (*activations, *resettable))

    def backward(self, inputs: Inputs, done: Outputs, d_output: Tensor, d_final: tuple[Tensor, ...]) -> Gradients:
        steps, (initial,), (weight_hh, _) = inputs.steps, inputs.state, inputs.weights
        activations, resettable = done.saved
        width = initial.shape[1]
        recurrent = inputs.product(weight_hh.t())
        d_candidates = torch.empty_like(resettable)
        d_sums = torch.empty_like(activations)  # in the loop, its last block is the gradient of W_hh y + b_hh
        tensors = (d_output, done.output, activations, resettable, d_candidates, d_sums)
        each = list(zip(*map(steps.split, tensors), strict=True))
        d_y = d_final[0][: steps.sizes[-1]]
        for t, (d_output_t, _, gates, reset_t, d_h, d_sums_t) in reversed(list(enumerate(each))):
            size = len(d_h)
            before = initial if t == 0 else each[t - 1][1][:size]
            r, z, h = gates.view(size, 3, width).unbind(1)
            d_r, d_z, d_reset = d_sums_t.view(size, 3, width).unbind(1)
            d_y = d_y + d_output_t
            through_z = d_y * z
            _sigmoid_backward((before - h).mul_(d_y), z, grad_input=d_z)
            _tanh_backward(d_y.sub_(through_z), h, grad_input=d_h)
            _sigmoid_backward(d_h * reset_t, r, grad_input=d_r)
            torch.mul(d_h, r, out=d_reset)
            d_y = steps.passed_back(t, recurrent(d_sums_t, through_z), d_final[0])

        d_weight_hh = steps.weight_gradient(d_sums, done.output, initial)
        d_bias_hh = d_sums[:, 2 * width :].sum(0)
        d_sums[:, 2 * width :] = d_candidates
        return Gradients((d_sums,), (d_y,), (d_weight_hh, d_bias_hh))
