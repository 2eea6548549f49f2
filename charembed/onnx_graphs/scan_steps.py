"""Build one time step of each recurrence of ONNX operators, after the equations of `charembed.recurrent.equations`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import Cell
from charembed.onnx_graphs.builder import GraphBuilder

GraphPrecision = Literal["float32", "int8"]

_ZERO_POINT = 128
"""Integer that stands for 0 in quantized states, which are unsigned."""
_STATE_SCALE = 127
"""Integers per unit of a state in int8."""


class MatMulBuilder:
    """Adds products of states with weights, in one precision. A state that is used repeatedly is quantized once."""

    def __init__(self, graph: GraphBuilder, precision: GraphPrecision) -> None:
        """
        Args:
            graph: Graph to add the nodes to.
            precision: Precision of the products.
        """
        self._graph = graph
        self._precision = precision
        self._quantized_states: dict[str, str] = {}

    def __call__(self, state: str, weight: NDArray[np.float32]) -> str:
        """Add state · weightᵀ and return the name of the result.

        Args:
            state: Name of the state. Shape: (readings, input)
            weight: Shape: (output, input)
        """
        graph = self._graph
        if self._precision == "float32":
            return str(graph("MatMul", state, graph.constant(weight.T)))
        zero_point = graph.constant(np.uint8(_ZERO_POINT))
        if state not in self._quantized_states:
            scale = graph.constant(np.float32(1 / _STATE_SCALE))
            self._quantized_states[state] = graph("QuantizeLinear", state, scale, zero_point)
        # The integer product, scaled back: weights have a scale per row, states a fixed one.
        integers, scales = graph.quantize(weight)
        product = graph(
            "MatMulInteger",
            self._quantized_states[state],
            graph.constant(integers.T),
            zero_point,
            graph.constant(np.int8(0)),
        )
        return str(graph("Mul", graph.cast_to_float(product), graph.constant(scales / _STATE_SCALE)))


@dataclass(frozen=True)
class StepBuilder:
    """Adds one time step of one layer.

    Its methods take the names of the input product W_i x_t + b and of the state before the step, and return the names
    of the state after the step, whose first is y_t.
    """

    graph: GraphBuilder
    """Graph to add the nodes to."""
    matmul: MatMulBuilder
    """Products with the recurrent weights."""
    weights: dict[str, NDArray[np.float32]]
    """Weights of the layer by name, with the gates of an LSTM in the order i, f, o, g."""
    hidden: int
    """Width of the state."""

    def add(self, cell: Cell, input_product: str, state: Sequence[str]) -> list[str]:
        """Add a step of the given recurrence."""
        match cell:
            case "elman":
                return self._elman(input_product, state[0])
            case "lstm":
                return self._lstm(input_product, *state)
            case "peephole_lstm":
                return self._peephole_lstm(input_product, *state)
            case "gru" if "bias_hh" in self.weights:
                return self._gru_reset_after(input_product, state[0])
            case "gru" | "mgu":
                return self._gru(input_product, state[0])

    def _preactivations(self, input_product: str, y: str) -> str:
        """W_i x_t + b + W_h y_{t-1}"""
        return str(self.graph("Add", self.matmul(y, self.weights["weight_hh"]), input_product))

    def _elman(self, input_product: str, y: str) -> list[str]:
        return [self.graph("Tanh", self._preactivations(input_product, y))]

    def _lstm(self, input_product: str, y: str, c: str) -> list[str]:
        graph, hidden = self.graph, self.hidden
        # One sigmoid for i, f and o, which are next to each other.
        gates, g = graph.split(self._preactivations(input_product, y), 3 * hidden, hidden)
        i, f, o = graph.split(graph("Sigmoid", gates), *[hidden] * 3)
        new_c = graph("Add", graph("Mul", f, c), graph("Mul", i, graph("Tanh", g)))
        return [graph("Mul", o, graph("Tanh", new_c)), new_c]

    def _peephole_lstm(self, input_product: str, y: str, c: str) -> list[str]:
        graph = self.graph
        i, f, o, g = graph.split(self._preactivations(input_product, y), *[self.hidden] * 4)
        # i and f see the cell state before the step, o the one after it.
        p_i, p_f, p_o = map(graph.constant, self.weights["weight_ch"])
        i, f = (
            graph("Sigmoid", graph("Add", preactivation, graph("Mul", c, peephole)))
            for preactivation, peephole in ((i, p_i), (f, p_f))
        )
        new_c = graph("Add", graph("Mul", f, c), graph("Mul", i, graph("Tanh", g)))
        o = graph("Sigmoid", graph("Add", o, graph("Mul", new_c, p_o)))
        return [graph("Mul", o, graph("Tanh", new_c)), new_c]

    def _gru_reset_after(self, input_product: str, y: str) -> list[str]:
        graph, hidden = self.graph, self.hidden
        h_gates, h_candidate = graph.split(self.matmul(y, self.weights["weight_hh"]), 2 * hidden, hidden)
        x_gates, x_candidate = graph.split(input_product, 2 * hidden, hidden)
        r, z = graph.split(graph("Sigmoid", graph("Add", h_gates, x_gates)), hidden, hidden)
        resettable = graph("Add", h_candidate, graph.constant(self.weights["bias_hh"]))
        h = graph("Tanh", graph("Add", x_candidate, graph("Mul", r, resettable)))
        return [graph("Add", h, graph("Mul", z, graph("Sub", y, h)))]  # h + z ⊙ (y_{t-1} − h)

    def _gru(self, input_product: str, y: str) -> list[str]:
        """The GRU; with one gate besides the candidate, the MGU."""
        graph, hidden, weight = self.graph, self.hidden, self.weights["weight_hh"]
        gate_rows = len(weight) - hidden
        x_gates, x_candidate = graph.split(input_product, gate_rows, hidden)
        gates = graph("Sigmoid", graph("Add", self.matmul(y, weight[:gate_rows]), x_gates))
        r, z = (gates, gates) if gate_rows == hidden else graph.split(gates, hidden, hidden)
        h_candidate = self.matmul(graph("Mul", r, y), weight[gate_rows:])
        h = graph("Tanh", graph("Add", h_candidate, x_candidate))
        return [graph("Add", y, graph("Mul", z, graph("Sub", h, y)))]  # y_{t-1} + z ⊙ (h − y_{t-1})
