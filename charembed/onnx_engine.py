"""Receives a pair of language models; hands on an engine that runs them in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.engine import Ids, Vectors, fingerprint
from charembed.errors import import_extra
from charembed.language_model import BiCharLM, Direction
from charembed.onnx_graphs import Precision, language_model_graph


class OnnxEngine:
    """ONNX Runtime, on the CPU: one session a direction, built from the weights."""

    def __init__(self, model: BiCharLM, precision: Precision = "float32") -> None:
        """
        Raises:
            MissingExtraError: onnx or onnxruntime is not installed.
        """
        self._onnxruntime = import_extra("onnxruntime", extra="onnx", purpose="the engine onnx")
        import_extra("onnx", extra="onnx", purpose="the engine onnx")
        self._model = model
        self._precision = precision
        self._known: dict[Direction, list[Any]] = {}
        self._sessions: dict[Direction, Any] = {}

    def refresh(self) -> bool:
        changed = False
        for direction in self._model.directions:
            lm = self._model.direction(direction)
            now = fingerprint(lm)
            if self._known.get(direction) != now:
                changed = True
                graph = language_model_graph(lm, self._precision)
                options = self._onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads run batches, as in PyTorch
                self._sessions[direction] = self._onnxruntime.InferenceSession(
                    graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
                self._known[direction] = now  # last: other threads look here
        return changed

    def run(self, direction: Direction, ids: Ids, state: Any, places: NDArray[np.int64]) -> tuple[Vectors, Any]:
        session = self._sessions[direction]
        names = [given.name for given in session.get_inputs()]
        if state is None:
            zeros = np.zeros((ids.shape[1], self._model.config.hidden_size), dtype=np.float32)
            state = [zeros] * (len(names) - 2)
        feeds = dict(zip(names[1:-1], (tensor[: ids.shape[1]] for tensor in state), strict=True))
        vectors, *state = session.run(None, feeds | {"ids": ids.astype(np.int64), "places": places})
        return vectors, state
