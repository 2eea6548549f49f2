"""Run the language models in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charembed.embedding.engine import Engine, Vectors
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.recurrent import Recurrence, State, map_state
from charembed.recurrent.float32_precision import float32_products
from charembed.recurrent.onednn_lstm import OneDNNLSTM, runs_on_onednn
from charembed.recurrent.products import StepProduct
from charembed.recurrent.table_reader import TableReader
from charembed.text.vocab import Ids

_PROJECTED_ROWS = 128
"""The number of states that are projected at once is rounded up to a multiple of this."""


class TorchEngine(Engine):
    """Runs the language models in PyTorch, on any device.

    On a CPU, in float32 and for LSTMs in bfloat16 too, the states of a reading are the same bit for bit whatever other
    readings are in its batch and however they are divided into calls: see `charembed.recurrent.onednn_lstm` and
    `charembed.recurrent.table_reader`.
    """

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
        self._readers: dict[Direction, Any] = {}  # OneDNNLSTM or TableReader
        self._projections: dict[Direction, StepProduct] = {}

    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        own = _in_bfloat16(lm) if self._precision == "bfloat16" else lm
        # A shallow copy shares the weights, but never applies dropout, even while the model is being trained.
        recurrence = copy.copy(own.rnn)
        recurrence.training = False
        self._lms[direction], self._recurrences[direction] = own, recurrence
        self._readers.pop(direction, None)
        self._projections.pop(direction, None)
        weight = own.embedding.weight
        if weight.device.type != "cpu":
            return
        if runs_on_onednn(recurrence, weight.dtype):
            self._readers[direction] = OneDNNLSTM(recurrence)
            if own is not lm:  # the reader has weights of its own: do not keep them twice
                own.rnn = self._recurrences[direction] = lm.rnn
        elif weight.dtype == torch.float32:
            self._readers[direction] = TableReader(recurrence)
        if own.proj is not None and weight.dtype == torch.float32:
            weight, bias = own.proj.weight.detach(), own.proj.bias.detach()
            self._projections[direction] = StepProduct(weight, bias, rows=_PROJECTED_ROWS, calls=_PROJECTED_ROWS)

    def run(self, direction: Direction, ids: Ids, state: Any, flat_positions: NDArray[np.int64]) -> tuple[Vectors, Any]:
        device = self._lms[direction].embedding.weight.device
        reader = self._readers.get(direction)
        if reader is not None:
            ids, flat_positions = _add_columns(ids, flat_positions, reader.columns(ids.shape[1]))
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
        if state is None:
            state = map_state(lambda tensor: tensor.to(lm.embedding.weight.dtype), recurrence.initial_state(readings))
        else:
            state = first_readings(state, readings)  # those that have ended are dropped
        reader = self._readers.get(direction)
        result: tuple[Tensor, State]
        if reader is None:
            result = recurrence(lm.embedding(characters), state)
        else:
            result = reader(lm.embedding.weight, characters, state)
        return result

    def project(self, direction: Direction, states: Tensor) -> Tensor:
        """Return states as word vectors consist of them. Shape: (positions, hidden_size) to (positions, output_size)"""
        proj = self._lms[direction].proj
        if proj is None:
            return states
        product = self._projections.get(direction, proj)
        if isinstance(product, StepProduct):
            return product(functional.pad(states, (0, 0, 0, -len(states) % _PROJECTED_ROWS)))[: len(states)]
        projected: Tensor = proj(states)
        return projected

    def numbers_per_character(self, direction: Direction) -> tuple[int, int]:
        """Return how many numbers reading a character takes at the peak, about, and the bytes of each."""
        lm = self._lms[direction]
        # A layer has its input, the gates of all characters and its output.
        numbers = lm.config.embedding_dim + (len(lm.rnn.gates) + 2) * lm.config.hidden_size
        return numbers, lm.embedding.weight.dtype.itemsize


def _in_bfloat16(lm: CharLM) -> CharLM:
    """Return a copy in bfloat16 without the decoder, which word vectors do not need."""
    return copy.deepcopy(lm, {id(lm.decoder): nn.Identity()}).bfloat16()


def first_readings(state: State, count: int) -> State:
    """Return the state of the first readings. Shape: (num_layers, count, hidden) per tensor"""
    return map_state(lambda tensor: tensor[:, :count].contiguous(), state)


def _add_columns(ids: Ids, flat_positions: NDArray[np.int64], columns: int) -> tuple[Ids, NDArray[np.int64]]:
    """Return characters with more columns, whose states are not needed, and the positions in them.

    Args:
        ids: the characters. Shape: (characters, readings)
        flat_positions: positions: character · readings + reading. Shape: (positions,)
        columns: number of columns of the result.
    """
    added = columns - ids.shape[1]
    return np.pad(ids, ((0, 0), (0, added))), flat_positions + flat_positions // ids.shape[1] * added
