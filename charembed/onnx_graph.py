"""Receives a language model; hands on an ONNX graph of it that reads characters and gives the states wanted.

Every recurrence is one ONNX `Scan` over the characters, of standard operators alone. In int8 the recurrent weights have
one scale a row, and states, which lie between -1 and 1 in every recurrence, the fixed scale 1/127: a vector then
depends on nothing but its own text, which it would not if scales were taken from whatever else is in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.devices import has_int8_units
from charembed.errors import import_extra
from charembed.language_model import CharLM
from charembed.recurrent import LSTMState

Precision = Literal["float32", "int8"]

_OPSET, _IR_VERSION = 17, 8
"""Of 2022: what ONNX Runtime has read ever since."""
_ZERO_POINT = 128
"""Of states in int8."""


class _Graph:
    """Operators and weights, as they come."""

    def __init__(self) -> None:
        self._onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self._names = 0

    def weight(self, array: Any, name: str | None = None) -> str:
        """A constant."""
        name = name or self._new("constant")
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def __call__(self, operator: str, *inputs: str, outputs: int | Sequence[str] = 1, **attributes: Any) -> Any:
        """An operator; the name of its output, or the names of its outputs."""
        names = [self._new(operator) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, names, **attributes))
        return names[0] if len(names) == 1 else names

    def split(self, tensor: str, *widths: int) -> Any:
        """Parts of the last dimension."""
        return self("Split", tensor, self.weight(np.array(widths, dtype=np.int64)), outputs=len(widths), axis=-1)

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    def taken(self) -> list[Any]:
        """The operators so far, which are then forgotten."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def _new(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"


class _Products:
    """Products of states with weights, in one precision."""

    def __init__(self, graph: _Graph, precision: Precision) -> None:
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
        whole, scales = quantized(weight)
        product = graph(
            "MatMulInteger", self._quantized[state], graph.weight(whole.T), zero_point, graph.weight(np.int8(0))
        )
        return str(graph("Mul", graph("Cast", product, to=self._float), graph.weight(scales / 127)))

    @property
    def _float(self) -> int:
        return int(import_extra("onnx", extra="onnx", purpose="building ONNX graphs").TensorProto.FLOAT)


def quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers and the scale of each row. CPUs without int8 units add pairs of products in 16 bits, which seven
    bits of weight fill.

    Args:
        weight: Shape: (output, input)

    Returns:
        Shape: (output, input), (output,)
    """
    largest = 127 if has_int8_units() else 63
    scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / largest
    return np.rint(weight / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def language_model_graph(lm: CharLM, precision: Precision = "float32") -> Any:
    """The graph of one direction.

    Inputs: `ids` (characters, readings) int64; for each layer l `hidden_l` and, for LSTMs, `cell_l` (readings, hidden);
    `places` (wanted,) int64, each character · readings + reading. Outputs: `vectors` (wanted, output_size), and
    `next_hidden_l`, `next_cell_l`.

    Args:
        lm: its weights are copied.
        precision: of the products with recurrent weights.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = _Graph()
    width = lm.config.hidden_size
    names = ("hidden", "cell") if lm.rnn.state_type is LSTMState else ("hidden",)
    states = [[f"{name}_{layer}" for name in names] for layer in range(lm.config.num_layers)]

    table = graph.weight(_array(lm.embedding.weight), "embedding")
    below = graph("Gather", table, "id")
    for layer, state in enumerate(states):
        weights = _layer(lm, layer)
        products = _Products(graph, precision)
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
    *_, output = _as_list(
        graph(
            "Scan", *flat, "ids", outputs=[*(f"next_{name}" for name in flat), "states"], body=body, num_scan_inputs=1
        )
    )
    rows = graph("Reshape", output, graph.weight(np.array([-1, width], dtype=np.int64)))
    if lm.proj is None:
        graph("Gather", rows, "places", outputs=["vectors"])
    else:
        wanted = graph("Gather", rows, "places")
        graph(
            "Gemm",
            wanted,
            graph.weight(_array(lm.proj.weight)),
            graph.weight(_array(lm.proj.bias)),
            outputs=["vectors"],
            transB=1,
        )
    whole = helper.make_graph(
        graph.taken(),
        "charembed",
        [
            value("ids", ["characters", "readings"], kinds.INT64),
            *(value(name, ["readings", width]) for name in flat),
            value("places", ["wanted"], kinds.INT64),
        ],
        [
            value("vectors", ["wanted", lm.config.output_size]),
            *(value(f"next_{name}", ["readings", width]) for name in flat),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.weights.items()],
    )
    return helper.make_model(
        whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="charembed"
    )


_TABLE_UP_TO = 2048
"""Characters up to which their input products are kept in the graph instead of computed."""


def _step(
    graph: _Graph,
    product: _Products,
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


def _layer(lm: CharLM, layer: int) -> dict[str, NDArray[np.float32]]:
    """Weights of a layer; an LSTM's gates in the order i, f, o, g, for which one sigmoid does."""
    weights = {name: _array(weight) for name, weight in lm.rnn.layer_parameters(layer).items()}
    if lm.config.cell in ("lstm", "peephole_lstm"):
        for name in ("weight_ih", "weight_hh", "bias"):
            i, f, g, o = np.split(weights[name], 4)
            weights[name] = np.concatenate([i, f, o, g])
    return weights


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _as_list(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else names
