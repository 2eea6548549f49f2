"""Build the ONNX graph of a language model of one direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder
from charembed.onnx_graphs.int8_lstm import PINNED_UNITS, int8_lstm_states
from charembed.onnx_graphs.lm_weights import as_array
from charembed.onnx_graphs.scan import MAX_TABLE_ROWS, scan_states
from charembed.onnx_graphs.scan_steps import GraphPrecision
from charembed.recurrent import LSTMState


def language_model_graph(
    lm: CharLM,
    precision: GraphPrecision = "float32",
    weight_bits: Literal[7, 8] | None = None,
    *,
    max_table_rows: int = MAX_TABLE_ROWS,
) -> Any:
    """Build the ONNX graph of a language model of one direction.

    Inputs, where `characters` is seq_len and `readings` is batch:

    - `ids`: character ids, int64. Shape: (characters, readings)
    - `hidden_0`, …, and for LSTMs `cell_0`, …: initial state of each layer. Shape: (readings, hidden)
    - `places`: positions of the vectors to return, int64, each character · readings + reading. Shape: (wanted,)

    Outputs:

    - `vectors`: Shape: (wanted, output_size)
    - `next_hidden_0`, …, and for LSTMs `next_cell_0`, …: state after the last character. Shape: (readings, hidden)

    Args:
        lm: Language model; its weights are copied.
        precision: Precision of the products with recurrent weights.
        weight_bits: Bits of int8 weights. 7 bits are correct on every CPU; by default the number that suits this one.
        max_table_rows: Largest number of characters whose input products are stored in the graph.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    graph = GraphBuilder(weight_bits)
    hidden = lm.config.hidden_size
    kinds = ("hidden", "cell") if _is_lstm(lm) else ("hidden",)
    layer_states = [[f"{kind}_{layer}" for kind in kinds] for layer in range(lm.config.num_layers)]
    state_names = [name for names in layer_states for name in names]
    _add_vectors(graph, lm, precision, layer_states, max_table_rows)

    inputs = [
        graph.value_info("ids", ["characters", "readings"], "int64"),
        *(graph.value_info(name, ["readings", hidden]) for name in state_names),
        graph.value_info("places", ["wanted"], "int64"),
    ]
    outputs = [
        graph.value_info("vectors", ["wanted", lm.config.output_size]),
        *(graph.value_info(f"next_{name}", ["readings", hidden]) for name in state_names),
    ]
    # Declare ONNX Runtime's own operators only in graphs that use them: other runtimes refuse an unknown domain.
    return graph.model(inputs, outputs, ["", "com.microsoft"] if _uses_int8_lstm(lm, precision) else [""])


def _is_lstm(lm: CharLM) -> bool:
    return lm.rnn.state_type is LSTMState


def _uses_int8_lstm(lm: CharLM, precision: GraphPrecision) -> bool:
    return _is_lstm(lm) and precision == "int8"


def _add_vectors(
    graph: GraphBuilder,
    lm: CharLM,
    precision: GraphPrecision,
    layer_states: Sequence[Sequence[str]],
    max_table_rows: int,
) -> None:
    """Add the nodes that compute `vectors` and the `next_…` states from the inputs of the graph."""
    hidden = lm.config.hidden_size
    # Run the recurrence over all characters.
    if _uses_int8_lstm(lm, precision):
        states, width = int8_lstm_states(graph, lm, layer_states), hidden + PINNED_UNITS
    else:
        states, width = scan_states(graph, lm, precision, layer_states, max_table_rows), hidden
    # Gather the states at the positions asked for: character · readings + reading is a row of the flattened states.
    rows = graph("Reshape", states, graph.constant(np.array([-1, width])))
    vectors = graph("Gather", rows, "places")
    if width > hidden:
        vectors, _ = graph.split(vectors, hidden, PINNED_UNITS)
    # Project them where the model has a projection above the top layer.
    if lm.proj is not None:
        weight, bias = graph.constant(as_array(lm.proj.weight)), graph.constant(as_array(lm.proj.bias))
        vectors = graph("Gemm", vectors, weight, bias, transB=1)
    graph.rename(vectors, "vectors")
