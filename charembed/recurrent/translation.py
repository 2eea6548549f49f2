"""Receives the weights of a recurrence; hands them on as PyTorch, Keras and ONNX have them, and the other way round.

Ours has one bias a gate; others have two, of which only the candidate of a GRU with `reset_after` needs both: the rest
are added up on the way in, and the second is zero on the way out. Keras and ONNX mix a GRU's z and 1 − z the other way
round than `gru_step` does, which negates the weights of z. An MGU is their GRU with z's weights those of r negated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.recurrent.cells import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM
from charembed.recurrent.layers import Recurrence, suffix

Array = NDArray[np.floating[Any]]
Layout = tuple[tuple[str, int], ...]
"""Another format's gates, each as one of ours and its sign."""

_ONNX_LSTM: Layout = (("input", 1), ("output", 1), ("forget", 1), ("cell", 1))
_ONNX_PEEPHOLES = (0, 2, 1)
"""Ours are of the input, forget and output gate; ONNX has them of input, output, forget. It is its own inverse."""


def torch_weights(recurrence: Recurrence[Any]) -> dict[str, Tensor]:
    """Weights for `load_state_dict` of a `torch.nn.RNN`, `LSTM` or `GRU` of the same sizes.

    Raises:
        CharEmbedError: PyTorch has no such recurrence.
    """
    _check_torch(recurrence)
    state: dict[str, Tensor] = {}
    for layer, reverse in recurrence.passes:
        weights = {name: weight.clone() for name, weight in _detached(recurrence, layer, reverse).items()}
        end = suffix(layer, reverse)
        bias_ih, bias_hh = _two_biases(recurrence, weights)
        state |= {f"weight_ih_{end}": weights["weight_ih"], f"weight_hh_{end}": weights["weight_hh"]}
        state |= {f"bias_ih_{end}": bias_ih, f"bias_hh_{end}": bias_hh}
        if "weight_hr" in weights:
            state[f"weight_hr_{end}"] = weights["weight_hr"]
    return state


def load_torch_weights(recurrence: Recurrence[Any], state: Mapping[str, Tensor]) -> None:
    """Take over the `state_dict()` of a `torch.nn.RNN` (tanh), `LSTM` or `GRU` of the same sizes, biases or none.

    Whether an RNN is one of tanh, and the order of its dimensions, a state dict does not say.

    Raises:
        CharEmbedError: PyTorch has no such recurrence, or weights that do not fit; the recurrence is as it was.
    """
    _check_torch(recurrence)
    if not isinstance(state, Mapping):
        raise CharEmbedError(f"expected a state_dict(), got {type(state).__name__}")
    remaining = dict(state)
    loaded = []
    for layer, reverse in recurrence.passes:
        end = suffix(layer, reverse)
        wanted = _detached(recurrence, layer, reverse)
        new = {}
        for name in wanted.keys() & {"weight_ih", "weight_hh", "weight_hr"}:
            if f"{name}_{end}" not in remaining:
                raise CharEmbedError(f"the state dict lacks {name}_{end}: it is of another recurrence or other sizes")
            new[name] = remaining.pop(f"{name}_{end}")
        names = [name for name in (f"bias_ih_{end}", f"bias_hh_{end}") if name in remaining]
        if len(names) == 1:
            raise CharEmbedError(f"the state dict holds {names[0]}, and no other bias beside it")
        biases = [remaining.pop(name) for name in names] or [torch.zeros_like(wanted["bias"])] * 2
        layout: Layout = tuple((gate, 1) for gate in recurrence.gates)
        loaded.append((wanted, new | _one_bias(recurrence, biases[0], biases[1], layout)))
    if remaining:
        raise CharEmbedError(f"the state dict holds {next(iter(remaining))}, which the recurrence has not")
    _copy(loaded)


def keras_weights(recurrence: Recurrence[Any], layer: int = 0) -> list[Array]:
    """Weights of one layer for `set_weights` of a Keras `SimpleRNN`, `LSTM` or `GRU`, or of a `Bidirectional` of it.

    The GRU's `reset_after` must be as ours, for an MGU False.

    Raises:
        CharEmbedError: Keras has no such recurrence.
    """
    layout = _keras_layout(recurrence)
    arrays: list[Array] = []
    for reverse in recurrence.directions:
        weights = _detached(recurrence, layer, reverse)
        biases = torch.stack(_two_biases(recurrence, weights))
        if not _resets_after(recurrence):
            biases = biases[0]
        kernel, recurrent_kernel = (_arranged(recurrence, weights[name], layout).t() for name in _MATRICES)
        arrays += map(_array, (kernel, recurrent_kernel, _arranged(recurrence, biases, layout, -1)))
    return arrays


def load_keras_weights(recurrence: Recurrence[Any], weights: Sequence[ArrayLike], layer: int = 0) -> None:
    """Take over `get_weights()` of a Keras layer as in `keras_weights`, with biases or without, into one layer.

    Raises:
        CharEmbedError: Keras has no such recurrence, weights that do not fit, or a GRU that is no MGU; the recurrence
            is as it was.
    """
    layout = _keras_layout(recurrence)
    directions = recurrence.directions
    each, rest = divmod(len(weights), len(directions))
    if rest or each not in (2, 3):
        raise CharEmbedError(f"expected {3 * len(directions)} arrays, kernels and bias, got {len(weights)}")
    loaded = []
    for number, reverse in enumerate(directions):
        kernel, recurrent_kernel, *biases = (_tensor(array) for array in weights[number * each : (number + 1) * each])
        wanted = _detached(recurrence, layer, reverse)
        new = {}
        for name, matrix in zip(_MATRICES, (kernel, recurrent_kernel), strict=True):
            if matrix.dim() != 2:
                raise CharEmbedError(f"a kernel has shape {tuple(matrix.shape)}, expected two dimensions")
            new[name] = _restored(recurrence, matrix.t(), layout)
        rows = len(layout) * recurrence.hidden_size
        shape = (2, rows) if _resets_after(recurrence) else (rows,)
        bias = biases[0] if biases else torch.zeros(shape)
        if bias.shape != shape:
            hint = "; is reset_after the same in both?" if isinstance(recurrence, (GRU, MGU)) else ""
            raise CharEmbedError(f"the bias has shape {tuple(bias.shape)}, expected {shape}{hint}")
        first, second = bias if bias.dim() == 2 else (bias, torch.zeros_like(bias))
        loaded.append((wanted, new | _one_bias(recurrence, first, second, layout)))
    _copy(loaded)


def onnx_operator(recurrence: Recurrence[Any]) -> tuple[str, dict[str, Any]]:
    """Name and attributes of the ONNX operator that computes one layer.

    Raises:
        CharEmbedError: ONNX has no such recurrence.
    """
    _onnx_layout(recurrence)
    attributes: dict[str, Any] = {
        "hidden_size": recurrence.hidden_size,
        "direction": "bidirectional" if recurrence.bidirectional else "forward",
    }
    match recurrence:
        case ElmanRNN():
            return "RNN", attributes
        case GRU() | MGU():
            return "GRU", attributes | {"linear_before_reset": int(_resets_after(recurrence))}
        case _:
            return "LSTM", attributes


def onnx_weights(recurrence: Recurrence[Any], layer: int = 0) -> dict[str, Array]:
    """Inputs W, R, B and, with peepholes, P of the operator that `onnx_operator` names, for one layer.

    Raises:
        CharEmbedError: ONNX has no such recurrence.
    """
    layout = _onnx_layout(recurrence)
    inputs: dict[str, list[Tensor]] = {}
    for reverse in recurrence.directions:
        weights = _detached(recurrence, layer, reverse)
        biases = (_arranged(recurrence, bias, layout) for bias in _two_biases(recurrence, weights))
        inputs.setdefault("W", []).append(_arranged(recurrence, weights["weight_ih"], layout))
        inputs.setdefault("R", []).append(_arranged(recurrence, weights["weight_hh"], layout))
        inputs.setdefault("B", []).append(torch.cat([*biases]))
        if "weight_ch" in weights:
            inputs.setdefault("P", []).append(weights["weight_ch"][list(_ONNX_PEEPHOLES)].flatten())
    return {name: _array(torch.stack(tensors)) for name, tensors in inputs.items()}


def load_onnx_weights(recurrence: Recurrence[Any], tensors: Mapping[str, ArrayLike], layer: int = 0) -> None:
    """Take over the inputs W, R and, where given, B and P of an ONNX operator into one layer.

    Raises:
        CharEmbedError: ONNX has no such recurrence, weights that do not fit, or a GRU that is no MGU; the recurrence
            is as it was.
    """
    layout = _onnx_layout(recurrence)
    names = {"W", "R", "B", "P"} if isinstance(recurrence, PeepholeLSTM) else {"W", "R", "B"}
    if not {"W", "R"} <= tensors.keys() <= names:
        raise CharEmbedError(f"expected the inputs {', '.join(sorted(names))}, got {', '.join(sorted(tensors))}")
    given = {name: _tensor(array) for name, array in tensors.items()}
    directions = recurrence.directions
    for name, tensor in given.items():
        if tensor.dim() < 2 or len(tensor) != len(directions):
            raise CharEmbedError(f"{name} has shape {tuple(tensor.shape)}, expected {len(directions)} direction(s)")
    loaded = []
    for number, reverse in enumerate(directions):
        wanted = _detached(recurrence, layer, reverse)
        new = {
            "weight_ih": _restored(recurrence, given["W"][number], layout),
            "weight_hh": _restored(recurrence, given["R"][number], layout),
        }
        rows = len(layout) * recurrence.hidden_size
        both = given["B"][number] if "B" in given else torch.zeros(2 * rows)
        if both.shape != (2 * rows,):
            raise CharEmbedError(f"B has shape {tuple(given['B'].shape)}, expected {(len(directions), 2 * rows)}")
        new |= _one_bias(recurrence, both[:rows], both[rows:], layout)
        if isinstance(recurrence, PeepholeLSTM):
            peepholes = given["P"][number] if "P" in given else torch.zeros(3 * recurrence.hidden_size)
            new["weight_ch"] = _blocks(peepholes, 3, "P")[list(_ONNX_PEEPHOLES)]
        loaded.append((wanted, new))
    _copy(loaded)


_MATRICES = ("weight_ih", "weight_hh")


def _detached(recurrence: Recurrence[Any], layer: int, reverse: bool) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in recurrence.layer_parameters(layer, reverse=reverse).items()}


def _tensor(array: ArrayLike) -> Tensor:
    try:
        return torch.from_numpy(np.array(array, dtype=np.result_type(np.asarray(array), np.float32)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CharEmbedError(f"a weight cannot be read as an array of numbers: {error}") from error


def _array(tensor: Tensor) -> Array:
    """In float32 where NumPy has not the tensor's type."""
    array: Array = (tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()).cpu().numpy().copy()
    return array


def _resets_after(recurrence: Recurrence[Any]) -> bool:
    return isinstance(recurrence, GRU) and recurrence.reset_after


def _check(recurrence: Recurrence[Any]) -> None:
    if not isinstance(recurrence, Recurrence):
        raise CharEmbedError(f"expected a recurrence of charembed.recurrent, got {type(recurrence).__name__}")


def _check_torch(recurrence: Recurrence[Any]) -> None:
    _check(recurrence)
    if not isinstance(recurrence, (ElmanRNN, LSTM)) and not _resets_after(recurrence):
        if isinstance(recurrence, GRU):
            raise CharEmbedError("PyTorch has no GRU with reset_after=False: build it with reset_after=True")
        raise CharEmbedError(f"PyTorch has no {type(recurrence).__name__}")


def _three_gates(recurrence: Recurrence[Any]) -> Layout:
    """z, r, h: what Keras and ONNX call a GRU."""
    if isinstance(recurrence, MGU):
        return (("forget", -1), ("forget", 1), ("candidate", 1))
    return (("update", 1 if _resets_after(recurrence) else -1), ("reset", 1), ("candidate", 1))


def _keras_layout(recurrence: Recurrence[Any]) -> Layout:
    _check(recurrence)
    if isinstance(recurrence, PeepholeLSTM) or recurrence.proj_size is not None:
        raise CharEmbedError("Keras has no LSTM with peepholes or a projection")
    if isinstance(recurrence, (GRU, MGU)):
        return _three_gates(recurrence)
    return tuple((gate, 1) for gate in recurrence.gates)


def _onnx_layout(recurrence: Recurrence[Any]) -> Layout:
    _check(recurrence)
    if recurrence.proj_size is not None:
        raise CharEmbedError("ONNX has no LSTM with a projection")
    if isinstance(recurrence, PeepholeLSTM) and recurrence.output_gate != "updated":
        raise CharEmbedError("ONNX has no LSTM whose output gate sees the previous cell state")
    if isinstance(recurrence, (GRU, MGU)):
        return _three_gates(recurrence)
    return _ONNX_LSTM if len(recurrence.gates) == 4 else tuple((gate, 1) for gate in recurrence.gates)


def _two_biases(recurrence: Recurrence[Any], weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The bias beside the input product and the one beside the recurrent product. Shape: (gates · hidden,) each"""
    second = torch.zeros_like(weights["bias"])
    if "bias_hh" in weights:
        second[-recurrence.hidden_size :] = weights["bias_hh"]
    return weights["bias"], second


def _one_bias(recurrence: Recurrence[Any], first: Tensor, second: Tensor, layout: Layout) -> dict[str, Tensor]:
    """`_two_biases` backwards, from another format's order of gates."""
    rows = (len(layout) * recurrence.hidden_size,)
    if first.shape != rows or second.shape != rows:
        raise CharEmbedError(f"biases of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected {rows}")
    if not _resets_after(recurrence):
        return {"bias": _restored(recurrence, first + second, layout)}
    first, second = (_restored(recurrence, bias, layout) for bias in (first, second))
    folded, candidate = torch.split(second, [2 * recurrence.hidden_size, recurrence.hidden_size])
    return {"bias": first + torch.cat([folded, torch.zeros_like(candidate)]), "bias_hh": candidate}


def _blocks(rows: Tensor, count: int, name: str) -> Tensor:
    if rows.dim() == 0 or rows.shape[0] % count:
        raise CharEmbedError(f"{name} of shape {tuple(rows.shape)} cannot be of {count} gates")
    return rows.reshape(count, -1, *rows.shape[1:])


def _arranged(recurrence: Recurrence[Any], rows: Tensor, layout: Layout, dim: int = 0) -> Tensor:
    """Our blocks of gates as another format has them."""
    blocks = dict(zip(recurrence.gates, rows.chunk(len(recurrence.gates), dim), strict=True))
    return torch.cat([sign * blocks[gate] for gate, sign in layout], dim)


def _restored(recurrence: Recurrence[Any], rows: Tensor, layout: Layout) -> Tensor:
    """`_arranged` backwards, along the first dimension."""
    ours: dict[str, Tensor] = {}
    for (gate, sign), block in zip(layout, _blocks(rows, len(layout), "a weight"), strict=True):
        if gate in ours and not torch.equal(ours[gate], sign * block):
            raise CharEmbedError("this GRU is no MGU: the weights of z are not those of r negated")
        ours[gate] = sign * block
    return torch.cat([ours[gate] for gate in recurrence.gates])


def _copy(loaded: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> None:
    """Overwrite weights, all or none."""
    for wanted, new in loaded:
        for name, tensor in new.items():
            if tensor.shape != wanted[name].shape:
                raise CharEmbedError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}")
    for wanted, new in loaded:
        for name, tensor in new.items():
            wanted[name].copy_(tensor)
