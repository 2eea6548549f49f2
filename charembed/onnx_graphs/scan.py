"""Build the recurrence of a language model as an ONNX `Scan` over the characters, of standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder
from charembed.onnx_graphs.lm_weights import as_array, layer_weights
from charembed.onnx_graphs.scan_steps import GraphPrecision, MatMulBuilder, StepBuilder

MAX_TABLE_ROWS = 2048
"""Largest number of characters whose input products are stored in the graph instead of computed for each step."""


def scan_states(
    graph: GraphBuilder,
    lm: CharLM,
    precision: GraphPrecision,
    layer_states: Sequence[Sequence[str]],
    max_table_rows: int = MAX_TABLE_ROWS,
) -> str:
    """Add all layers as one `Scan`, from `ids` and the initial states to the `next_…` states.

    In int8, states have the fixed scale 1/127: they lie between -1 and 1 in every recurrence.

    Args:
        graph: Graph to add the nodes to.
        lm: Language model; its weights are copied.
        precision: Precision of the products with recurrent weights.
        layer_states: Names of the tensors of the initial state, for each layer.
        max_table_rows: Largest number of characters whose input products are stored in the graph.

    Returns:
        Name of the states of the top layer. Shape: (characters, readings, hidden)
    """
    onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
    hidden = lm.config.hidden_size

    # The body of the scan: one character through all layers. The states before it are `…_now`, those after `…_new`.
    below = graph("Gather", graph.constant(as_array(lm.embedding.weight), "embedding"), "id")
    for layer, names in enumerate(layer_states):
        weights = layer_weights(lm, layer)
        matmul = MatMulBuilder(graph, precision)
        if layer == 0:
            input_product = _character_product(graph, below, weights, max_table_rows)
        else:
            input_product = graph("Add", matmul(below, weights["weight_ih"]), graph.constant(weights["bias"]))
        step = StepBuilder(graph, matmul, weights, hidden)
        new_states = step.add(lm.config.cell, input_product, [f"{name}_now" for name in names])
        for name, tensor in zip(names, new_states, strict=True):
            graph.rename(tensor, f"{name}_new")
        below = f"{names[0]}_new"
    graph("Identity", below, outputs=["state"])

    flat = [name for names in layer_states for name in names]
    body = onnx.helper.make_graph(
        graph.take_nodes(),
        "character",
        [
            *(graph.value_info(f"{name}_now", ["readings", hidden]) for name in flat),
            graph.value_info("id", ["readings"], "int64"),
        ],
        [
            *(graph.value_info(f"{name}_new", ["readings", hidden]) for name in flat),
            graph.value_info("state", ["readings", hidden]),
        ],
    )
    # The scan itself: it carries the states, reads one row of `ids` per character and collects `state` as `states`.
    outputs = [*(f"next_{name}" for name in flat), "states"]
    graph("Scan", *flat, "ids", outputs=outputs, body=body, num_scan_inputs=1)
    return "states"


def _character_product(
    graph: GraphBuilder, embedded: str, weights: dict[str, NDArray[np.float32]], max_table_rows: int
) -> str:
    """Add W_i x_t + b of the first layer, in float32 in either precision.

    For a small vocabulary the product is computed for each character now, and the embedding table is replaced by it.
    """
    if len(graph.constants["embedding"]) <= max_table_rows:
        graph.constants["embedding"] = graph.constants["embedding"] @ weights["weight_ih"].T + weights["bias"]
        return embedded
    product = graph("MatMul", embedded, graph.constant(weights["weight_ih"].T))
    return str(graph("Add", product, graph.constant(weights["bias"])))
