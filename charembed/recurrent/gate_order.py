"""Reorder the gates and combine the biases of a recurrence for another library.

Libraries differ in three ways in which they store the same recurrence:

- The gates are in another order. A GRU's update gate may also be the complement, 1 − z instead of z: because
  1 − σ(a) = σ(−a), its weights are negated.
- Each gate has two biases, one next to the input product and one next to the recurrent product. Only their sum matters,
  except for the candidate of a GRU with `reset_after`. charembed has one bias; the second one is zero on export, and
  both are added on import.
- They do not have the MGU. It is the GRU whose z and r are the same gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.recurrent.cells import GRU, MGU
from charembed.recurrent.layers import Recurrence

GateOrder = tuple[tuple[str, int], ...]
"""The gates of another library in its order, each as the charembed gate and the sign of its weights, 1 or -1."""


def resets_after(recurrence: Recurrence[Any]) -> bool:
    """Return whether it is a GRU with `reset_after`."""
    return isinstance(recurrence, GRU) and recurrence.reset_after


def same_order(recurrence: Recurrence[Any]) -> GateOrder:
    """Return the order in which charembed stores the gates."""
    return tuple((gate, 1) for gate in recurrence.gates)


def zrh_order(recurrence: Recurrence[Any]) -> GateOrder:
    """Return the order of the GRU in Keras and ONNX, z, r, h; for an MGU, both gates are the forget gate.

    With the reset before the product, their y_t = z ⊙ y_{t-1} + (1 − z) ⊙ h: z is 1 − z of `gru_step`, hence its sign.
    """
    if isinstance(recurrence, MGU):
        return (("forget", -1), ("forget", 1), ("candidate", 1))
    return (("update", 1 if resets_after(recurrence) else -1), ("reset", 1), ("candidate", 1))


def to_order(recurrence: Recurrence[Any], rows: Tensor, order: GateOrder, dim: int = 0) -> Tensor:
    """Reorder the gate blocks of a charembed weight along a dimension."""
    blocks = dict(zip(recurrence.gates, rows.chunk(len(recurrence.gates), dim), strict=True))
    return torch.cat([sign * blocks[gate] for gate, sign in order], dim)


def from_order(recurrence: Recurrence[Any], rows: Tensor, order: GateOrder) -> Tensor:
    """Undo `to_order` along the first dimension.

    Raises:
        CharEmbedError: The rows cannot be divided among the gates, or a GRU is loaded into an MGU and is not one.
    """
    blocks: dict[str, Tensor] = {}
    for (gate, sign), block in zip(order, gate_blocks(rows, len(order), "a weight"), strict=True):
        if gate in blocks and not torch.equal(blocks[gate], sign * block):
            raise CharEmbedError("this GRU is not an MGU: the weights of z are not the negated weights of r")
        blocks[gate] = sign * block
    return torch.cat([blocks[gate] for gate in recurrence.gates])


def gate_blocks(rows: Tensor, count: int, name: str) -> Tensor:
    """Split rows into blocks of gates. Shape: (count · hidden, …) to (count, hidden, …)

    Raises:
        CharEmbedError: The number of rows is not a multiple of the number of gates.
    """
    if rows.dim() == 0 or rows.shape[0] % count:
        raise CharEmbedError(f"{name} of shape {tuple(rows.shape)} cannot be divided into {count} gates")
    return rows.reshape(count, -1, *rows.shape[1:])


def two_biases(recurrence: Recurrence[Any], weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the biases next to the input product and next to the recurrent product. Shape: (gates · hidden,) each"""
    second = torch.zeros_like(weights["bias"])
    if "bias_hh" in weights:
        second[-recurrence.hidden_size :] = weights["bias_hh"]
    return weights["bias"], second


def one_bias(recurrence: Recurrence[Any], first: Tensor, second: Tensor, order: GateOrder) -> dict[str, Tensor]:
    """Undo `two_biases`: return `bias` and, with `reset_after`, `bias_hh`.

    Args:
        recurrence: Recurrence that the biases are for.
        first: Bias next to the input product.
        second: Bias next to the recurrent product.
        order: Order of their gates.

    Raises:
        CharEmbedError: The shapes do not match.
    """
    expected = (len(order) * recurrence.hidden_size,)
    if first.shape != expected or second.shape != expected:
        raise CharEmbedError(
            f"the biases have shapes {tuple(first.shape)} and {tuple(second.shape)}, expected {expected}"
        )
    if not resets_after(recurrence):
        return {"bias": from_order(recurrence, first + second, order)}
    # With reset_after, the candidate keeps its second bias; those of the gates are added to the first.
    first, second = (from_order(recurrence, bias, order) for bias in (first, second))
    gates, candidate = torch.split(second, [2 * recurrence.hidden_size, recurrence.hidden_size])
    return {"bias": first + torch.cat([gates, torch.zeros_like(candidate)]), "bias_hh": candidate}


def copy_weights(pairs: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> None:
    """Overwrite the weights of several layers, all or none.

    Args:
        pairs: For each layer its weights, and their new values by the same names.

    Raises:
        CharEmbedError: A shape does not match; nothing is overwritten.
    """
    for weights, new in pairs:
        for name, tensor in new.items():
            if tensor.shape != weights[name].shape:
                raise CharEmbedError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(weights[name].shape)}")
    for weights, new in pairs:
        for name, tensor in new.items():
            weights[name].copy_(tensor)
