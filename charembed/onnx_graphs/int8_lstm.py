"""Build the recurrence of an LSTM language model as ONNX Runtime's int8 LSTM.

For a single sentence, `com.microsoft.DynamicQuantizeLSTM` is faster than a `Scan`. But it quantizes its input and the
hidden state by the smallest and the largest value in the whole batch, so a vector would depend on the other texts.
Therefore the range is pinned: two more input dimensions are always 1 and -1, and two more hidden units always have
the states 1 and -1, the extremes of any hidden state. No other unit reads them, because their weights are zero, and
the scale is the same in every call. The inputs are scaled, dimension by dimension, to use the whole range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder
from charembed.onnx_graphs.lm_weights import as_array, layer_weights

PINNED_UNITS = 2
"""Number of hidden units that pin the range."""
_SATURATED = 50.0
"""Pre-activation that opens or closes a gate completely in float32."""
_PINNED_CELL = 20.0
"""Cell state of a pinned unit: its tanh is 1 in float32."""


def int8_lstm_states(graph: GraphBuilder, lm: CharLM, layer_states: Sequence[Sequence[str]]) -> str:
    """Add all layers as `DynamicQuantizeLSTM`, from `ids` and the initial states to the `next_…` states.

    Args:
        graph: Graph to add the nodes to.
        lm: Language model with an LSTM, with or without peepholes; its weights are copied.
        layer_states: Names of the hidden state and the cell state, for each layer.

    Returns:
        Name of the states of the top layer. Shape: (characters, readings, hidden + PINNED_UNITS)
    """
    # The embedding, each dimension scaled to [-1, 1], next to the pinned inputs.
    embedding = as_array(lm.embedding.weight)
    largest = np.maximum(np.abs(embedding).max(axis=0), np.finfo(np.float32).tiny)
    pinned = np.broadcast_to(np.array([1, -1], np.float32), (len(embedding), PINNED_UNITS))
    below: str = graph("Gather", graph.constant(np.concatenate([embedding / largest, pinned], axis=1)), "ids")

    # Shape of the pinned units' initial states: (readings, PINNED_UNITS).
    readings = graph("Gather", graph("Shape", layer_states[0][0]), graph.constant(np.array([0])))
    pinned_shape = graph("Concat", readings, graph.constant(np.array([PINNED_UNITS])), axis=0)
    axes = graph.constant(np.array([0])), graph.constant(np.array([1]))
    for layer, names in enumerate(layer_states):
        weights = layer_weights(lm, layer)
        if layer == 0:
            weights["weight_ih"] = weights["weight_ih"] * largest  # undoes the scaling of the embedding
        below = _layer(graph, weights, below, names, pinned_shape, axes)
    return below


def _layer(
    graph: GraphBuilder,
    weights: dict[str, NDArray[np.float32]],
    below: str,
    names: Sequence[str],
    pinned_shape: str,
    axes: tuple[str, str],
) -> str:
    """Add one layer.

    Args:
        graph: Graph to add the nodes to.
        weights: Weights of the layer, from `layer_weights`.
        below: Name of its input. Shape: (characters, readings, input + PINNED_UNITS)
        names: Names of its hidden state and cell state.
        pinned_shape: Name of the shape of the pinned units' state.
        axes: Names of the constants [0] and [1].

    Returns:
        Name of its output. Shape: (characters, readings, hidden + PINNED_UNITS)
    """
    hidden = weights["weight_hh"].shape[1]

    # The initial states, with the pinned units appended, and a first dimension for the direction.
    initial_states = []
    for name, value in zip(names, (1.0, _PINNED_CELL), strict=True):
        pinned = graph("Expand", graph.constant(np.array([[value, -value]], np.float32)), pinned_shape)
        initial_states.append(graph("Unsqueeze", graph("Concat", name, pinned, axis=1), axes[0]))

    # The weights. The pinned units keep their cell state: input gate closed, forget gate and output gate open.
    bias = _append_pinned_rows(weights["bias"])
    for gate, preactivation in ((0, -_SATURATED), (1, _SATURATED), (2, _SATURATED)):
        bias.reshape(4, -1)[gate, hidden:] = preactivation
    quantized = [_quantize(graph, weights[name]) for name in ("weight_ih", "weight_hh")]
    peepholes = ""
    if "weight_ch" in weights:  # i, f, o in charembed; i, o, f in ONNX
        rows = np.concatenate([weights["weight_ch"], np.zeros((3, PINNED_UNITS), np.float32)], axis=1)
        peepholes = graph.constant(rows[[0, 2, 1]].reshape(1, -1))
    zero_points = graph.constant(np.zeros((1, 4 * (hidden + PINNED_UNITS)), np.int8))
    matrices = [graph.constant(integers) for integers, _ in quantized]
    biases = graph.constant(np.concatenate([_to_onnx_order(bias), np.zeros_like(bias)])[None])

    # X, W, R, B, sequence_lens (left out), initial_h, initial_c, P; then scale and zero points of W and of R.
    inputs = [below, *matrices, biases, "", *initial_states, peepholes]
    for _, scales in quantized:
        inputs += [graph.constant(scales), zero_points]
    output, *final_states = graph(
        "DynamicQuantizeLSTM",
        *inputs,
        outputs=3,
        domain="com.microsoft",
        hidden_size=hidden + PINNED_UNITS,
        direction="forward",
    )

    # The final states without the pinned units, and the output without the dimension for the direction.
    for name, final_state in zip(names, final_states, strict=True):
        squeezed = graph("Squeeze", final_state, axes[0])
        graph.split(squeezed, hidden, PINNED_UNITS, outputs=(f"next_{name}", graph.new_name("pins")))
    return str(graph("Squeeze", output, axes[1]))


def _append_pinned_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append rows of zeros for the pinned units to each of the four gates."""
    blocks = rows.reshape(4, -1, *rows.shape[1:])
    zeros = np.zeros((4, PINNED_UNITS, *rows.shape[1:]), np.float32)
    return np.concatenate([blocks, zeros], axis=1).reshape(-1, *rows.shape[1:])


def _to_onnx_order(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder gates from i, f, o, g to ONNX's i, o, f, g."""
    i, f, o, g = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def _quantize(graph: GraphBuilder, matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a matrix for the operator, with zero weights from and to the pinned units.

    Returns:
        The integers and the scales. Shape: (1, input + PINNED_UNITS, 4 · (hidden + PINNED_UNITS)),
        (1, 4 · (hidden + PINNED_UNITS))
    """
    rows = _to_onnx_order(_append_pinned_rows(matrix))
    columns = np.zeros((len(rows), PINNED_UNITS), np.float32)
    integers, scales = graph.quantize(np.concatenate([rows, columns], axis=1))
    return integers.T[None], scales[None]
