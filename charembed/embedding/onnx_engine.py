"""Receives a pair of language models; hands on an engine that runs them in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.engine import Engine, Ids, Vectors
from charembed.errors import import_extra
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.onnx_graphs import GraphPrecision, language_model_graph


class OnnxEngine(Engine):
    """ONNX Runtime, on the CPU: one session a direction, built from the weights."""

    def __init__(self, model: BiCharLM, precision: GraphPrecision = "float32") -> None:
        """
        Raises:
            MissingExtraError: onnx or onnxruntime is not installed.
        """
        self._onnxruntime = import_extra("onnxruntime", extra="onnx", purpose="the engine onnx")
        import_extra("onnx", extra="onnx", purpose="the engine onnx")
        super().__init__(model)
        self._precision = precision
        self._sessions: dict[Direction, Any] = {}

    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        graph = language_model_graph(lm, self._precision)
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads run batches, as in PyTorch
        self._sessions[direction] = self._onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, direction: Direction, ids: Ids, state: Any, places: NDArray[np.int64]) -> tuple[Vectors, Any]:
        session = self._sessions[direction]
        names = [given.name for given in session.get_inputs()]
        if state is None:
            zeros = np.zeros((ids.shape[1], self._model.config.hidden_size), dtype=np.float32)
            state = [zeros] * (len(names) - 2)
        feeds = dict(zip(names[1:-1], (tensor[: ids.shape[1]] for tensor in state), strict=True))
        vectors, *state = session.run(None, feeds | {"ids": ids.astype(np.int64), "places": places})
        return vectors, state
