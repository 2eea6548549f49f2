"""Receives a language model; hands on its recurrence as an ONNX `Scan` over the characters, of standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder, as_array, layer_weights

GraphPrecision = Literal["float32", "int8"]

_ZERO_POINT = 128
"""Of states in int8."""
_TABLE_UP_TO = 2048
"""Characters up to which their input products are kept in the graph instead of computed."""


def scan_states(graph: GraphBuilder, lm: CharLM, precision: GraphPrecision, states: Sequence[Sequence[str]]) -> str:
    """All layers, step by step, from `ids` and states to `next_…` states.

    In int8 states have the fixed scale 1/127: they lie between -1 and 1 in every recurrence.

    Args:
        graph: where the operators go.
        lm: its weights are copied.
        precision: of the products with recurrent weights.
        states: names of each layer's states.

    Returns:
        The top layer's states. Shape: (characters, readings, hidden)
    """
    onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
    helper, kinds = onnx.helper, onnx.TensorProto
    width = lm.config.hidden_size
    table = graph.weight(as_array(lm.embedding.weight), "embedding")
    below = graph("Gather", table, "id")
    for layer, state in enumerate(states):
        weights = layer_weights(lm, layer)
        products = Products(graph, precision)
        if layer == 0:  # of characters, exact in any precision
            if len(graph.weights["embedding"]) <= _TABLE_UP_TO:
                graph.weights["embedding"] = graph.weights["embedding"] @ weights["weight_ih"].T + weights["bias"]
                sums = below
            else:
                inputs = graph("MatMul", below, graph.weight(weights["weight_ih"].T))
                sums = graph("Add", inputs, graph.weight(weights["bias"]))
        else:
            sums = graph("Add", products(below, weights["weight_ih"]), graph.weight(weights["bias"]))
        new = _step(graph, products, lm, weights, sums, [f"{name}_now" for name in state])
        for name, tensor in zip(state, new, strict=True):
            graph.rename(tensor, f"{name}_new")
        below = f"{state[0]}_new"
    graph("Identity", below, outputs=["state"])

    def value(name: str, shape: Sequence[Any], kind: int = kinds.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    flat = [name for state in states for name in state]
    body = helper.make_graph(
        graph.taken(),
        "character",
        [*(value(f"{name}_now", ["readings", width]) for name in flat), value("id", ["readings"], kinds.INT64)],
        [*(value(f"{name}_new", ["readings", width]) for name in flat), value("state", ["readings", width])],
    )
    outputs = [*(f"next_{name}" for name in flat), "states"]
    graph("Scan", *flat, "ids", outputs=outputs, body=body, num_scan_inputs=1)
    return "states"


class Products:
    """Products of states with weights, in one precision."""

    def __init__(self, graph: GraphBuilder, precision: GraphPrecision) -> None:
        self._graph = graph
        self._precision = precision
        self._quantized: dict[str, str] = {}

    def __call__(self, state: str, weight: NDArray[np.float32]) -> str:
        """state · weightᵀ. Weight: (output, input)"""
        graph = self._graph
        if self._precision == "float32":
            return str(graph("MatMul", state, graph.weight(weight.T)))
        zero_point = graph.weight(np.uint8(_ZERO_POINT))
        if state not in self._quantized:
            self._quantized[state] = graph("QuantizeLinear", state, graph.weight(np.float32(1 / 127)), zero_point)
        whole, scales = graph.quantized(weight)
        product = graph(
            "MatMulInteger", self._quantized[state], graph.weight(whole.T), zero_point, graph.weight(np.int8(0))
        )
        return str(graph("Mul", graph("Cast", product, to=self._float), graph.weight(scales / 127)))

    @property
    def _float(self) -> int:
        return int(import_extra("onnx", extra="onnx", purpose="building ONNX graphs").TensorProto.FLOAT)


def _step(
    graph: GraphBuilder,
    product: Products,
    lm: CharLM,
    weights: dict[str, NDArray[np.float32]],
    sums: str,
    state: Sequence[str],
) -> list[str]:
    """One step of one layer, given W_i x_t + b: the equations of `charembed.recurrent.steps`."""
    width = lm.config.hidden_size
    y, recurrent = state[0], weights["weight_hh"]
    match lm.config.cell:
        case "elman":
            return [graph("Tanh", graph("Add", product(y, recurrent), sums))]
        case "lstm":
            gates, g = graph.split(graph("Add", product(y, recurrent), sums), 3 * width, width)
            i, f, o = graph.split(graph("Sigmoid", gates), *[width] * 3)
            new = graph("Add", graph("Mul", f, state[1]), graph("Mul", i, graph("Tanh", g)))
            return [graph("Mul", o, graph("Tanh", new)), new]
        case "peephole_lstm":
            i, f, o, g = graph.split(graph("Add", product(y, recurrent), sums), *[width] * 4)
            to_i, to_f, to_o = map(graph.weight, weights["weight_ch"])
            cell = state[1]
            i, f = (
                graph("Sigmoid", graph("Add", total, graph("Mul", cell, peephole)))
                for total, peephole in ((i, to_i), (f, to_f))
            )
            new = graph("Add", graph("Mul", f, cell), graph("Mul", i, graph("Tanh", g)))
            o = graph("Sigmoid", graph("Add", o, graph("Mul", new, to_o)))
            return [graph("Mul", o, graph("Tanh", new)), new]
        case "gru" if lm.config.reset_after:
            of_gates, of_candidate = graph.split(product(y, recurrent), 2 * width, width)
            sum_gates, sum_candidate = graph.split(sums, 2 * width, width)
            r, z = graph.split(graph("Sigmoid", graph("Add", of_gates, sum_gates)), width, width)
            resettable = graph("Add", of_candidate, graph.weight(weights["bias_hh"]))
            h = graph("Tanh", graph("Add", sum_candidate, graph("Mul", r, resettable)))
            return [graph("Add", h, graph("Mul", z, graph("Sub", y, h)))]
        case "gru" | "mgu":
            gates = len(recurrent) - width
            sum_gates, sum_candidate = graph.split(sums, gates, width)
            opened = graph("Sigmoid", graph("Add", product(y, recurrent[:gates]), sum_gates))
            r, z = (opened, opened) if gates == width else graph.split(opened, width, width)
            candidate = product(graph("Mul", r, y), recurrent[gates:])
            h = graph("Tanh", graph("Add", candidate, sum_candidate))
            return [graph("Add", y, graph("Mul", z, graph("Sub", h, y)))]
    raise AssertionError(lm.config.cell)
