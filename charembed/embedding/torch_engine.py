"""Run the language models in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        device = self._lms[direction].embedding.weight.device
        with self.inference(direction):
            characters = torch.from_numpy(ids.astype(np.int64)).to(device)
            states, state = self.states(direction, characters, state)
            # Keep the states at the positions only, and project only those.
            positions = torch.from_numpy(flat_positions).to(device)
            selected = self.project(direction, states.flatten(0, 1).index_select(0, positions))
            return selected.float().cpu().numpy(), state

    @contextmanager
    def inference(self, direction: Direction) -> Iterator[None]:
        """Compute in the precision of the engine, without gradients, until the context ends."""
        device = self._lms[direction].embedding.weight.device
        with torch.inference_mode(), float32_products(device, self._precision):
            yield

    def states(self, direction: Direction, characters: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the states of the recurrence after some characters, and the state to continue from.

        Call it in the context `inference`, as well as `project`.

        Args:
            direction: which model to run.
            characters: the characters, on the device of the model. Shape: (characters, readings)
            state: state of at least as many readings, of which the first ones continue; None for the zero state.

        Returns:
            The states, and the state after the last character. Shape: (characters, readings, hidden_size)
        """
        lm, recurrence = self._lms[direction], self._recurrences[direction]
        readings = characters.shape[1]
        table = lm.embedding.weight
        # Readings that have ended are dropped from the state.
        state = recurrence.initial_state(readings) if state is None else first_readings(state, readings)
        # Read the characters, with the faster of two implementations that give the same states.
        has_step_loop = table.device.type == "cpu" and table.dtype == torch.float32
        if has_step_loop and (lm.config.cell != "lstm" or readings >= STEP_LOOP_FROM):
            return self._readers[direction](table, characters, state)
        result: tuple[Tensor, State] = recurrence(lm.embedding(characters), state)
        return result

    def project(self, direction: Direction, states: Tensor) -> Tensor:
        """Return states as word vectors consist of them. Shape: (positions, hidden_size) to (positions, output_size)"""
        proj = self._lms[direction].proj
        projected: Tensor = states if proj is None else proj(states)
        return projected

    def numbers_per_character(self, direction: Direction) -> tuple[int, int]:
        """Return how many numbers reading a character takes at the peak, about, and the bytes of each."""
        lm = self._lms[direction]
        # A layer has its input, the gates of all characters and its output.
        numbers = lm.config.embedding_dim + (len(lm.rnn.gates) + 2) * lm.config.hidden_size
        return numbers, lm.embedding.weight.dtype.itemsize


def first_readings(state: State, count: int) -> State:
    """Return the state of the first readings. Shape: (num_layers, count, hidden) per tensor"""
    return map_state(lambda tensor: tensor[:, :count].contiguous(), state)
