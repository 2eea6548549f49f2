"""Run the language models in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.engine import Engine, Vectors
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.onnx_graphs import GraphPrecision, language_model_graph
from charembed.onnx_graphs.runtime import import_onnxruntime
from charembed.text.vocab import Ids


class OnnxEngine(Engine):
    """Runs the language models in ONNX Runtime on the CPU, in one session per direction."""

    def __init__(self, model: BiCharLM, directions: Sequence[Direction], precision: GraphPrecision = "float32") -> None:
        """
        Args:
            model: the language models. Their weights are copied into the sessions.
            directions: those that are used.
            precision: precision of the products with recurrent weights.

        Raises:
            MissingExtraError: onnx or onnxruntime is not installed.
        """
        self._onnxruntime = import_onnxruntime("the engine onnx")
        super().__init__(model, directions)
        self._precision = precision
        self._sessions: dict[Direction, Any] = {}

    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        graph = language_model_graph(lm, self._precision)
        options = self._onnxruntime.SessionOptions()
        # One thread per session: batches run in parallel instead, as in the PyTorch engine.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._sessions[direction] = self._onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, direction: Direction, ids: Ids, state: Any, flat_positions: NDArray[np.int64]) -> tuple[Vectors, Any]:
        session = self._sessions[direction]
        # The graph's inputs are the ids, the state tensors of each layer, and the positions ("places").
        _, *state_names, _ = [graph_input.name for graph_input in session.get_inputs()]
        readings = ids.shape[1]
        if state is None:
            state = [np.zeros((readings, self._model.config.hidden_size), dtype=np.float32)] * len(state_names)
        feeds = dict(zip(state_names, (tensor[:readings] for tensor in state), strict=True))
        vectors, *state = session.run(None, feeds | {"ids": ids.astype(np.int64), "places": flat_positions})
        return vectors, state
