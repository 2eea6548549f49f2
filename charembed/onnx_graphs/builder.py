"""Receives operators and weights as they come; hands on what an ONNX graph is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.lm.model import CharLM
from charembed.util.devices import has_int8_units


class GraphBuilder:
    """Operators and weights, as they come."""

    def __init__(self, weight_bits: Literal[7, 8] | None = None) -> None:
        """
        Args:
            weight_bits: of weights in int8. CPUs without int8 units add pairs of products in 16 bits, which seven bits
                of weight fill; what this machine can add, by default.
        """
        self._largest = 127 if weight_bits == 8 or (weight_bits is None and has_int8_units()) else 63
        self._onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self._names = 0

    def weight(self, array: Any, name: str | None = None) -> str:
        """A constant."""
        name = name or self.new("constant")
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def __call__(self, operator: str, *inputs: str, outputs: int | Sequence[str] = 1, **attributes: Any) -> Any:
        """An operator; the name of its output, or the names of its outputs."""
        names = [self.new(operator) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, names, **attributes))
        return names[0] if len(names) == 1 else names

    def split(self, tensor: str, *widths: int, outputs: Sequence[str] | None = None) -> Any:
        """Parts of the last dimension."""
        return self("Split", tensor, self.weight(np.array(widths)), outputs=outputs or len(widths), axis=-1)

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    def quantized(self, weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Whole numbers and the scale of each row.

        Args:
            weight: Shape: (output, input)

        Returns:
            Shape: (output, input), (output,)
        """
        scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / self._largest
        return np.rint(weight / scales[:, None]).astype(np.int8), scales.astype(np.float32)

    def taken(self) -> list[Any]:
        """The operators so far, which are then forgotten."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def new(self, kind: str) -> str:
        """A name that nothing has yet."""
        self._names += 1
        return f"{kind}_{self._names}"


def layer_weights(lm: CharLM, layer: int) -> dict[str, NDArray[np.float32]]:
    """Weights of a layer; an LSTM's gates in the order i, f, o, g, for which one sigmoid does."""
    weights = {name: as_array(weight) for name, weight in lm.rnn.layer_parameters(layer).items()}
    if lm.config.cell in ("lstm", "peephole_lstm"):
        for name in ("weight_ih", "weight_hh", "bias"):
            i, f, g, o = np.split(weights[name], 4)
            weights[name] = np.concatenate([i, f, o, g])
    return weights


def as_array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
