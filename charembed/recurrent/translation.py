"""Translate the weights of a recurrence to PyTorch, Keras and ONNX, and back.

Each library has a function in either direction: `torch_weights` and `load_torch_weights`, `keras_weights` and
`load_keras_weights`, `onnx_weights` and `load_onnx_weights`. `charembed.recurrent.gate_order` explains how the
libraries differ. All functions copy the weights. If loading fails, the recurrence keeps its weights.
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
from charembed.recurrent.gate_order import (
    GateOrder,
    copy_weights,
    from_order,
    gate_blocks,
    one_bias,
    resets_after,
    same_order,
    to_order,
    two_biases,
    zrh_order,
)
from charembed.recurrent.layers import Recurrence, suffix

Array = NDArray[np.floating[Any]]

_MATRICES = ("weight_ih", "weight_hh")
_ONNX_LSTM_ORDER: GateOrder = (("input", 1), ("output", 1), ("forget", 1), ("cell", 1))
_ONNX_PEEPHOLE_ORDER = [0, 2, 1]
"""charembed has the peepholes of the input, forget and output gate, ONNX of input, output, forget. Its own inverse."""


# PyTorch -------------------------------------------------------------------------------------------------------------


def torch_weights(recurrence: Recurrence[Any]) -> dict[str, Tensor]:
    """Return the weights for `load_state_dict` of a `torch.nn.RNN`, `LSTM` or `GRU` of the same sizes.

    Raises:
        CharEmbedError: PyTorch does not have this recurrence.
    """
    _check_torch(recurrence)
    state_dict: dict[str, Tensor] = {}
    for layer, reverse in recurrence.passes:
        weights = {name: weight.clone() for name, weight in _layer_weights(recurrence, layer, reverse).items()}
        end = suffix(layer, reverse)
        bias_ih, bias_hh = two_biases(recurrence, weights)
        state_dict |= {f"weight_ih_{end}": weights["weight_ih"], f"weight_hh_{end}": weights["weight_hh"]}
        state_dict |= {f"bias_ih_{end}": bias_ih, f"bias_hh_{end}": bias_hh}
        if "weight_hr" in weights:
            state_dict[f"weight_hr_{end}"] = weights["weight_hr"]
    return state_dict


def load_torch_weights(recurrence: Recurrence[Any], state: Mapping[str, Tensor]) -> None:
    """Load the `state_dict()` of a `torch.nn.RNN` (tanh), `LSTM` or `GRU` of the same sizes, with or without biases.

    A state dict does not record whether an RNN uses tanh or ReLU, nor whether its module is `batch_first`.

    Args:
        recurrence: Recurrence to load into.
        state: State dict of the PyTorch module.

    Raises:
        CharEmbedError: PyTorch does not have this recurrence, or the weights do not match it. The recurrence keeps its
            weights.
    """
    _check_torch(recurrence)
    if not isinstance(state, Mapping):
        raise CharEmbedError(f"expected a state_dict(), got {type(state).__name__}")
    remaining = dict(state)
    pairs = []
    for layer, reverse in recurrence.passes:
        end = suffix(layer, reverse)
        current = _layer_weights(recurrence, layer, reverse)
        new = {}
        for name in current.keys() & {*_MATRICES, "weight_hr"}:
            if f"{name}_{end}" not in remaining:
                raise CharEmbedError(f"the state dict lacks {name}_{end}: it is of another recurrence or other sizes")
            new[name] = remaining.pop(f"{name}_{end}")
        # A module has both biases or none.
        names = [name for name in (f"bias_ih_{end}", f"bias_hh_{end}") if name in remaining]
        if len(names) == 1:
            raise CharEmbedError(f"the state dict has {names[0]} but not the other bias of the layer")
        first, second = [remaining.pop(name) for name in names] or [torch.zeros_like(current["bias"])] * 2
        pairs.append((current, new | one_bias(recurrence, first, second, same_order(recurrence))))
    # Further layers, a reverse direction or a projection would be ignored silently.
    if remaining:
        raise CharEmbedError(f"the state dict has {next(iter(remaining))}, which the recurrence does not have")
    copy_weights(pairs)


# Keras ---------------------------------------------------------------------------------------------------------------


def keras_weights(recurrence: Recurrence[Any], layer: int = 0) -> list[Array]:
    """Return the weights of one layer for `set_weights` of a Keras `SimpleRNN`, `LSTM` or `GRU`, or a `Bidirectional`.

    The Keras GRU must have the same `reset_after`; for an MGU it must be False.

    Raises:
        CharEmbedError: Keras does not have this recurrence, or the recurrence does not have this layer.
    """
    order = _keras_order(recurrence)
    arrays: list[Array] = []
    for reverse in recurrence.directions:
        weights = _layer_weights(recurrence, layer, reverse)
        biases = torch.stack(two_biases(recurrence, weights))
        if not resets_after(recurrence):
            biases = biases[0]
        input_matrix, recurrent_matrix = (to_order(recurrence, weights[name], order).t() for name in _MATRICES)
        arrays += map(_array, (input_matrix, recurrent_matrix, to_order(recurrence, biases, order, -1)))
    return arrays


def load_keras_weights(recurrence: Recurrence[Any], weights: Sequence[ArrayLike], layer: int = 0) -> None:
    """Load `get_weights()` of a Keras layer as in `keras_weights`, with or without biases, into one layer.

    Args:
        recurrence: Recurrence to load into.
        weights: Kernel, recurrent kernel and bias, in Keras's terms, for each direction.
        layer: Number of the layer.

    Raises:
        CharEmbedError: Keras does not have this recurrence, the weights do not match it, or a GRU that is not an MGU is
            loaded into an MGU. The recurrence keeps its weights.
    """
    order = _keras_order(recurrence)
    directions = recurrence.directions
    per_direction, rest = divmod(len(weights), len(directions))
    if rest or per_direction not in (2, 3):
        raise CharEmbedError(
            f"expected {3 * len(directions)} arrays (kernel, recurrent kernel and bias of each direction),"
            f" got {len(weights)}"
        )
    pairs = []
    for number, reverse in enumerate(directions):
        current = _layer_weights(recurrence, layer, reverse)
        arrays = weights[number * per_direction : (number + 1) * per_direction]
        input_matrix, recurrent_matrix, *biases = map(_tensor, arrays)
        new = {}
        for name, matrix in zip(_MATRICES, (input_matrix, recurrent_matrix), strict=True):
            if matrix.dim() != 2:
                raise CharEmbedError(f"a kernel has shape {tuple(matrix.shape)}, expected two dimensions")
            new[name] = from_order(recurrence, matrix.t(), order)
        # Only a GRU with reset_after has two biases in Keras, as two rows.
        rows = len(order) * recurrence.hidden_size
        shape = (2, rows) if resets_after(recurrence) else (rows,)
        bias = biases[0] if biases else torch.zeros(shape)
        if bias.shape != shape:
            hint = "; is reset_after the same in both?" if isinstance(recurrence, (GRU, MGU)) else ""
            raise CharEmbedError(f"the bias has shape {tuple(bias.shape)}, expected {shape}{hint}")
        first, second = bias if bias.dim() == 2 else (bias, torch.zeros_like(bias))
        pairs.append((current, new | one_bias(recurrence, first, second, order)))
    copy_weights(pairs)


# ONNX ----------------------------------------------------------------------------------------------------------------


def onnx_operator(recurrence: Recurrence[Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the ONNX operator that computes one layer.

    Raises:
        CharEmbedError: ONNX does not have this recurrence.
    """
    _onnx_order(recurrence)
    attributes: dict[str, Any] = {
        "hidden_size": recurrence.hidden_size,
        "direction": "bidirectional" if recurrence.bidirectional else "forward",
    }
    match recurrence:
        case ElmanRNN():
            return "RNN", attributes
        case GRU() | MGU():
            return "GRU", attributes | {"linear_before_reset": int(resets_after(recurrence))}
        case _:
            return "LSTM", attributes


def onnx_weights(recurrence: Recurrence[Any], layer: int = 0) -> dict[str, Array]:
    """Return the inputs W, R, B and, with peepholes, P of the operator that `onnx_operator` names, for one layer.

    Raises:
        CharEmbedError: ONNX does not have this recurrence, or the recurrence does not have this layer.
    """
    order = _onnx_order(recurrence)
    inputs: dict[str, list[Tensor]] = {}
    for reverse in recurrence.directions:
        weights = _layer_weights(recurrence, layer, reverse)
        biases = (to_order(recurrence, bias, order) for bias in two_biases(recurrence, weights))
        inputs.setdefault("W", []).append(to_order(recurrence, weights["weight_ih"], order))
        inputs.setdefault("R", []).append(to_order(recurrence, weights["weight_hh"], order))
        inputs.setdefault("B", []).append(torch.cat([*biases]))
        if "weight_ch" in weights:
            inputs.setdefault("P", []).append(weights["weight_ch"][_ONNX_PEEPHOLE_ORDER].flatten())
    return {name: _array(torch.stack(tensors)) for name, tensors in inputs.items()}


def load_onnx_weights(recurrence: Recurrence[Any], tensors: Mapping[str, ArrayLike], layer: int = 0) -> None:
    """Load the inputs W, R and, if present, B and P of an ONNX operator into one layer.

    Args:
        recurrence: Recurrence to load into.
        tensors: Inputs of the operator by name.
        layer: Number of the layer.

    Raises:
        CharEmbedError: ONNX does not have this recurrence, the weights do not match it, or a GRU that is not an MGU is
            loaded into an MGU. The recurrence keeps its weights.
    """
    order = _onnx_order(recurrence)
    names = {"W", "R", "B", "P"} if isinstance(recurrence, PeepholeLSTM) else {"W", "R", "B"}
    if not {"W", "R"} <= tensors.keys() <= names:
        raise CharEmbedError(f"expected the inputs {', '.join(sorted(names))}, got {', '.join(sorted(tensors))}")
    inputs = {name: _tensor(array) for name, array in tensors.items()}
    directions = recurrence.directions
    for name, tensor in inputs.items():
        if tensor.dim() < 2 or len(tensor) != len(directions):
            raise CharEmbedError(f"{name} has shape {tuple(tensor.shape)}, expected {len(directions)} direction(s)")
    pairs = []
    for number, reverse in enumerate(directions):
        current = _layer_weights(recurrence, layer, reverse)
        new = {
            "weight_ih": from_order(recurrence, inputs["W"][number], order),
            "weight_hh": from_order(recurrence, inputs["R"][number], order),
        }
        # B holds the bias next to the input product, then the one next to the recurrent product.
        rows = len(order) * recurrence.hidden_size
        biases = inputs["B"][number] if "B" in inputs else torch.zeros(2 * rows)
        if biases.shape != (2 * rows,):
            raise CharEmbedError(f"B has shape {tuple(inputs['B'].shape)}, expected {(len(directions), 2 * rows)}")
        new |= one_bias(recurrence, biases[:rows], biases[rows:], order)
        if isinstance(recurrence, PeepholeLSTM):
            peepholes = inputs["P"][number] if "P" in inputs else torch.zeros(3 * recurrence.hidden_size)
            new["weight_ch"] = gate_blocks(peepholes, 3, "P")[_ONNX_PEEPHOLE_ORDER]
        pairs.append((current, new))
    copy_weights(pairs)


# What the three have in common ---------------------------------------------------------------------------------------


def _layer_weights(recurrence: Recurrence[Any], layer: int, reverse: bool) -> dict[str, Tensor]:
    """Return the weights of one layer in one direction by name, detached from the autograd graph."""
    return {name: weight.detach() for name, weight in recurrence.layer_parameters(layer, reverse=reverse).items()}


def _tensor(array: ArrayLike) -> Tensor:
    """Copy an array into a tensor, at least in float32."""
    try:
        return torch.from_numpy(np.array(array, dtype=np.result_type(np.asarray(array), np.float32)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CharEmbedError(f"a weight cannot be read as an array of numbers: {error}") from error


def _array(tensor: Tensor) -> Array:
    """Copy a tensor into an array, in float32 if NumPy does not have its type."""
    array: Array = (tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()).cpu().numpy().copy()
    return array


def _check_recurrence(recurrence: Recurrence[Any]) -> None:
    if not isinstance(recurrence, Recurrence):
        raise CharEmbedError(f"expected a recurrence of charembed.recurrent, got {type(recurrence).__name__}")


def _check_torch(recurrence: Recurrence[Any]) -> None:
    _check_recurrence(recurrence)
    if not isinstance(recurrence, (ElmanRNN, LSTM)) and not resets_after(recurrence):
        if isinstance(recurrence, GRU):
            raise CharEmbedError("PyTorch does not have a GRU with reset_after=False: create it with reset_after=True")
        raise CharEmbedError(f"PyTorch does not have a recurrence like {type(recurrence).__name__}")


def _keras_order(recurrence: Recurrence[Any]) -> GateOrder:
    _check_recurrence(recurrence)
    if isinstance(recurrence, PeepholeLSTM) or recurrence.proj_size is not None:
        raise CharEmbedError("Keras does not have an LSTM with peepholes or a projection")
    return zrh_order(recurrence) if isinstance(recurrence, (GRU, MGU)) else same_order(recurrence)


def _onnx_order(recurrence: Recurrence[Any]) -> GateOrder:
    _check_recurrence(recurrence)
    if recurrence.proj_size is not None:
        raise CharEmbedError("ONNX does not have an LSTM with a projection")
    if isinstance(recurrence, PeepholeLSTM) and recurrence.output_gate != "updated":
        raise CharEmbedError("ONNX does not have an LSTM whose output gate sees the previous cell state")
    if isinstance(recurrence, (GRU, MGU)):
        return zrh_order(recurrence)
    return same_order(recurrence) if isinstance(recurrence, ElmanRNN) else _ONNX_LSTM_ORDER
