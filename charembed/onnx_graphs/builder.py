"""Collect the nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.util.devices import has_int8_units

_OPSETS, _IR_VERSION = {"": 17, "com.microsoft": 1}, 8
"""Versions of 2022, which ONNX Runtime has read ever since."""


class GraphBuilder:
    """Nodes and constants of a graph, in the order in which they were added. Tensors are known by their names."""

    def __init__(self, weight_bits: Literal[7, 8] | None = None) -> None:
        """
        Args:
            weight_bits: Bits of int8 weights. CPUs without int8 units add pairs of products in 16 bits, which overflow
                with more than 7 bits. By default the number that this CPU can add.
        """
        self._max_int8 = 127 if weight_bits == 8 or (weight_bits is None and has_int8_units()) else 63
        self._onnx = import_extra("onnx", extra="onnx", purpose="building ONNX graphs")
        self._num_names = 0
        self.nodes: list[Any] = []
        """Nodes added so far."""
        self.constants: dict[str, NDArray[Any]] = {}
        """Constants by name."""

    def constant(self, array: Any, name: str | None = None) -> str:
        """Add a constant and return its name."""
        name = name or self.new_name("constant")
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def __call__(self, operator: str, *inputs: str, outputs: int | Sequence[str] = 1, **attributes: Any) -> Any:
        """Add a node.

        Args:
            operator: Name of the ONNX operator.
            *inputs: Names of its inputs; empty for an optional input that is left out.
            outputs: Number of its outputs, or their names.
            **attributes: Attributes of the operator.

        Returns:
            The name of the output, or the list of names if there are several.
        """
        names = [self.new_name(operator) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, names, **attributes))
        return names[0] if len(names) == 1 else names

    def split(self, tensor: str, *widths: int, outputs: Sequence[str] | None = None) -> Any:
        """Split the last dimension of a tensor into parts of the given widths and return their names."""
        return self("Split", tensor, self.constant(np.array(widths)), outputs=outputs or len(widths), axis=-1)

    def cast_to_float(self, tensor: str) -> str:
        """Cast a tensor to float32 and return the name of the result."""
        return str(self("Cast", tensor, to=int(self._onnx.TensorProto.FLOAT)))

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor in all nodes."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    def quantize(self, weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round a weight to integers, with one scale per row.

        Args:
            weight: Shape: (output, input)

        Returns:
            The integers and the scales; their product is the weight. Shape: (output, input), (output,)
        """
        # The largest value of a row becomes the largest integer; a row of zeros must not divide by zero.
        scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / self._max_int8
        return np.rint(weight / scales[:, None]).astype(np.int8), scales.astype(np.float32)

    def take_nodes(self) -> list[Any]:
        """Return the nodes added so far and start a new list, for the graph that contains them."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any], domains: Sequence[str] = ("",)) -> Any:
        """Return an `onnx.ModelProto` of the nodes and constants added so far.

        Args:
            inputs: Descriptions of its inputs, from `value_info`.
            outputs: Descriptions of its outputs.
            domains: Domains of the operators: "" for those of the ONNX standard.
        """
        helper = self._onnx.helper
        constants = [self._onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        proto = helper.make_graph(self.take_nodes(), "charembed", inputs, outputs, constants)
        opsets = [helper.make_opsetid(domain, _OPSETS[domain]) for domain in domains]
        return helper.make_model(proto, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="charembed")

    def new_name(self, kind: str) -> str:
        """Return an unused name."""
        self._num_names += 1
        return f"{kind}_{self._num_names}"

    def value_info(self, name: str, shape: Sequence[int | str], dtype: Literal["float32", "int64"] = "float32") -> Any:
        """Describe an input or output of a graph; a dimension of variable size is given by its name."""
        types = self._onnx.TensorProto
        return self._onnx.helper.make_tensor_value_info(name, types.INT64 if dtype == "int64" else types.FLOAT, shape)
