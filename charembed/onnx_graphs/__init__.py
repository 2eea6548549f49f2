"""Receives a language model; hands on an ONNX graph of it that reads characters and gives the states wanted.

Every recurrence is an ONNX `Scan` over the characters, of standard operators alone, but LSTMs in int8, which are ONNX
Runtime's own. In int8 recurrent weights have one scale a row, and what they are multiplied with a fixed one: a vector
then depends on nothing but its own text, which it would not if scales were taken from whatever else is in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from charembed.errors import import_extra
from charembed.lm.model import CharLM
from charembed.onnx_graphs.builder import GraphBuilder, as_array
from charembed.onnx_graphs.int8_lstm import PINS, int8_lstm_states
from charembed.onnx_graphs.scan import GraphPrecision, scan_states
from charembed.recurrent import LSTMState

__all__ = ["GraphPrecision", "language_model_graph"]

_OPSETS, _IR_VERSION = {"": 17, "com.microsoft": 1}, 8
"""Of 2022: what ONNX Runtime has read ever since."""


def language_model_graph(
    lm: CharLM, precision: GraphPrecision = "float32", weight_bits: Literal[7, 8] | None = None
) -> Any:
    """The graph of one direction.

    Inputs: `ids` (characters, readings) int64; for each layer l `hidden_l` and, for LSTMs, `cell_l` (readings, hidden);
    `places` (wanted,) int64, each character · readings + reading. Outputs: `vectors` (wanted, output_size), and
    `next_hidden_l`, `next_cell_l`.

    Args:
        lm: its weights are copied.
        precision: of the products with recurrent weights.
        weight_bits: of weights in int8: 7 is right on any CPU; what suits this one, by default.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = GraphBuilder(weight_bits)
    width = lm.config.hidden_size
    is_lstm = lm.rnn.state_type is LSTMState
    names = ("hidden", "cell") if is_lstm else ("hidden",)
    states = [[f"{name}_{layer}" for name in names] for layer in range(lm.config.num_layers)]
    flat = [name for state in states for name in state]
    fused = is_lstm and precision == "int8"

    read = int8_lstm_states(graph, lm, states) if fused else scan_states(graph, lm, precision, states)
    rows = graph("Reshape", read, graph.weight(np.array([-1, width + PINS if fused else width])))
    wanted = graph("Gather", rows, "places")
    if fused:
        wanted, _ = graph.split(wanted, width, PINS)
    if lm.proj is not None:
        weight, bias = graph.weight(as_array(lm.proj.weight)), graph.weight(as_array(lm.proj.bias))
        wanted = graph("Gemm", wanted, weight, bias, transB=1)
    graph.rename(wanted, "vectors")

    def value(name: str, shape: Sequence[Any], kind: int = kinds.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

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
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items() if fused or not domain]
    return helper.make_model(whole, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="charembed")
