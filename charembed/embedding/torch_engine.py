"""Run the language models in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charembed.embedding.engine import Engine, Vectors
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.recurrent import Recurrence, State, map_state
from charembed.recurrent.float32_precision import float32_products
from charembed.recurrent.table_reader import TableReader
from charembed.text.vocab import Ids

STEP_LOOP_FROM = 16
"""Number of readings from which our step loop runs LSTMs faster than PyTorch's fused loop."""


class TorchEngine(Engine):
    """Runs the language models in PyTorch, on any device."""

    def __init__(self, model: BiCharLM, directions: Sequence[Direction], precision: str = "float32") -> None:
        """
        Args:
            model: the language models, copied if `precision` is "bfloat16" and used without a copy otherwise.
            directions: those that are used.
            precision: precision of the computation: "float32", "tf32" or "bfloat16".
        """
        super().__init__(model, directions)
        self._precision = precision
        self._lms: dict[Direction, CharLM] = {}
        self._recurrences: dict[Direction, Recurrence[Any]] = {}
        self._readers: dict[Direction, TableReader] = {}

    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        self._lms[direction] = copy.deepcopy(lm).bfloat16() if self._precision == "bfloat16" else lm
        # A shallow copy shares the weights, but never applies dropout, even while the model is being trained.
        recurrence = copy.copy(self._lms[direction].rnn)
        recurrence.training = False
        self._recurrences[direction] = recurrence
        self._readers[direction] = TableReader(recurrence)

    def run(self, direction: Direction, ids: Ids, state: Any, flat_positions: NDArray[np.int64]) -> tuple[Vectors, Any]:
        lm, recurrence = self._lms[direction], self._recurrences[direction]
        readings = ids.shape[1]
        table = lm.embedding.weight
        with torch.inference_mode(), float32_products(table.device, self._precision):
            # Move the input to the device; readings that have ended are dropped from the state.
            characters = torch.from_numpy(ids.astype(np.int64)).to(table.device)
            state = recurrence.initial_state(readings) if state is None else first_readings(state, readings)
            # Read the characters, with the faster of two implementations that give the same states.
            has_step_loop = table.device.type == "cpu" and table.dtype == torch.float32
            if has_step_loop and (lm.config.cell != "lstm" or readings >= STEP_LOOP_FROM):
                states, state = self._readers[direction](table, characters, state)
            else:
                states, state = recurrence(lm.embedding(characters), state)
            # Keep the states at the positions only, and project only those.
            positions = torch.from_numpy(flat_positions).to(table.device)
            selected = states.flatten(0, 1).index_select(0, positions)
            if lm.proj is not None:
                selected = lm.proj(selected)
            return selected.float().cpu().numpy(), state


def first_readings(state: State, count: int) -> State:
    """Return the state of the first readings. Shape: (num_layers, count, hidden) per tensor"""
    return map_state(lambda tensor: tensor[:, :count].contiguous(), state)
