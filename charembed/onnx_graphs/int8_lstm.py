"""Receives an LSTM language model; hands on its recurrence as ONNX Runtime's own int8 LSTM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder, as_array, layer_weights

PINS = 2
"""Further hidden units."""
_SATURATED, _FULL = 50.0, 20.0
"""A sum that opens or shuts a gate for good, and a cell whose tanh is 1."""


def int8_lstm_states(graph: GraphBuilder, lm: CharLM, states: Sequence[Sequence[str]]) -> str:
    """All layers as `com.microsoft.DynamicQuantizeLSTM`, from `ids` and states to `next_…` states.

    For a single sentence it is faster than a Scan, but it takes the scale of what it multiplies from the least and the
    largest number among all that is in the batch. Two further inputs and hidden units, which nothing else hears of, are
    therefore held at the least and the largest number there can be: the scale is always the same, and a vector depends
    on its own text alone. Inputs are scaled to the full range, dimension by dimension.

    Args:
        graph: where the operators go.
        lm: an LSTM, with peepholes or without; its weights are copied.
        states: names of each layer's hidden state and cell.

    Returns:
        The top layer's states. Shape: (characters, readings, hidden + PINS)
    """
    width = lm.config.hidden_size
    embedding = as_array(lm.embedding.weight)
    largest = np.maximum(np.abs(embedding).max(axis=0), np.finfo(np.float32).tiny)
    pinned = np.broadcast_to(np.array([1, -1], np.float32), (len(embedding), PINS))
    below = graph("Gather", graph.weight(np.concatenate([embedding / largest, pinned], axis=1)), "ids")
    readings = graph("Gather", graph("Shape", states[0][0]), graph.weight(np.array([0])))
    shape = graph("Concat", readings, graph.weight(np.array([PINS])), axis=0)
    first, second = graph.weight(np.array([0])), graph.weight(np.array([1]))
    for layer, state in enumerate(states):
        weights = layer_weights(lm, layer)
        inputs = weights["weight_ih"] * (largest if layer == 0 else 1)
        starts = []
        for name, pin in zip(state, (1.0, _FULL), strict=True):
            pins = graph("Expand", graph.weight(np.array([[pin, -pin]], np.float32)), shape)
            starts.append(graph("Unsqueeze", graph("Concat", name, pins, axis=1), first))
        bias = _with_pins(weights["bias"])
        for gate, total in ((0, -_SATURATED), (1, _SATURATED), (2, _SATURATED)):  # input shut, forget and output open
            bias.reshape(4, -1)[gate, width:] = total
        matrices, scales = zip(*(_quantized(graph, matrix) for matrix in (inputs, weights["weight_hh"])), strict=True)
        peepholes = ""
        if "weight_ch" in weights:  # of i, f, o; here i, o, f
            rows = np.concatenate([weights["weight_ch"], np.zeros((3, PINS), np.float32)], axis=1)
            peepholes = graph.weight(rows[[0, 2, 1]].reshape(1, -1))
        zero_points = graph.weight(np.zeros((1, 4 * (width + PINS)), np.int8))
        biases = np.concatenate([_iofg(bias), np.zeros_like(bias)])[None]
        given = [below, *map(graph.weight, matrices), graph.weight(biases), "", *starts, peepholes]
        for scale in scales:
            given += [graph.weight(scale), zero_points]
        output, *ends = graph(
            "DynamicQuantizeLSTM",
            *given,
            outputs=3,
            domain="com.microsoft",
            hidden_size=width + PINS,
            direction="forward",
        )
        for name, end in zip(state, ends, strict=True):
            graph.split(graph("Squeeze", end, first), width, PINS, outputs=(f"next_{name}", graph.new("pins")))
        below = graph("Squeeze", output, second)
    return str(below)


def _with_pins(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Four blocks of gates with rows of zeros for the pins."""
    blocks = rows.reshape(4, -1, *rows.shape[1:])
    zeros = np.zeros((4, PINS, *rows.shape[1:]), np.float32)
    return np.concatenate([blocks, zeros], axis=1).reshape(-1, *rows.shape[1:])


def _iofg(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blocks of gates i, f, o, g in the order of ONNX."""
    i, f, o, g = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def _quantized(graph: GraphBuilder, matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix as the operator takes it, deaf to the pins, and its scales.

    Shape: (1, input + PINS, 4 · (hidden + PINS)), (1, 4 · (hidden + PINS))
    """
    rows = _iofg(_with_pins(matrix))
    whole, scales = graph.quantized(np.concatenate([rows, np.zeros((len(rows), PINS), np.float32)], axis=1))
    return whole.T[None], scales[None]
