"""Receives readings; hands on the hidden states where they are wanted, and keeps no others."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charembed.embedding.batching import CHUNK_CHARACTERS, plan_chunks
from charembed.embedding.passage import Reading
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.recurrent import Recurrence, State, map_state
from charembed.recurrent.table_reader import TableReader

Ids = NDArray[np.int32]
Vectors = NDArray[np.float32]
Encode = Callable[[str], Ids]

FUSED_UP_TO = 16
"""LSTMs side by side below which PyTorch's fused loop is faster than a step loop of ours."""

_SAMPLE = 16
"""Numbers of each weight that are looked at for changes."""


def fingerprint(lm: CharLM) -> list[Any]:
    """Differs when weights that states depend on have been replaced or changed in place.

    Changes through `.data`, which PyTorch does not count, are seen in a sample of each weight.
    """
    modules = (lm.embedding, lm.rnn) if lm.proj is None else (lm.embedding, lm.rnn, lm.proj)
    weights = [weight.detach() for module in modules for weight in module.parameters(recurse=False)]
    return [
        (
            weight.data_ptr(),
            0 if weight.is_inference() else weight._version,
            weight.flatten()[:: max(1, weight.numel() // _SAMPLE)].tolist(),
        )
        for weight in weights
    ]


class Engine(ABC):
    """Runs the language models."""

    def __init__(self, model: BiCharLM) -> None:
        """
        Args:
            model: its weights may change; `refresh` finds out.
        """
        self._model = model
        self._known: dict[Direction, list[Any]] = {}

    def refresh(self) -> bool:
        """Take notice of weights that have changed; whether any have."""
        changed = False
        for direction in self._model.directions:
            lm = self._model.direction(direction)
            now = fingerprint(lm)
            if self._known.get(direction) != now:
                changed = True
                self._prepare(direction, lm)
                self._known[direction] = now  # last: other threads look here
        return changed

    @abstractmethod
    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        """Get ready to run a model that is new or has new weights."""

    @abstractmethod
    def run(self, direction: Direction, ids: Ids, state: Any, places: NDArray[np.int64]) -> tuple[Vectors, Any]:
        """Read some characters on.

        Args:
            direction: which model.
            ids: the characters. Shape: (characters, readings)
            state: what an earlier run has returned, of as many readings or more, of which the first go on; None to
                start.
            places: where states are wanted: character · readings + reading. Shape: (wanted,)

        Returns:
            The wanted states, and the state to go on from. Shape: (wanted, output_size)
        """


class TorchEngine(Engine):
    """PyTorch, on any device."""

    def __init__(self, model: BiCharLM, dtype: torch.dtype = torch.float32) -> None:
        """
        Args:
            model: used as it is in float32, and otherwise copied.
            dtype: of the computation.
        """
        super().__init__(model)
        self._dtype = dtype
        self._lms: dict[Direction, CharLM] = {}
        self._recurrences: dict[Direction, Recurrence[Any]] = {}
        self._readers: dict[Direction, TableReader] = {}

    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        self._lms[direction] = lm if self._dtype == torch.float32 else copy.deepcopy(lm).to(self._dtype)
        recurrence = copy.copy(self._lms[direction].rnn)  # with the same weights, and never dropout
        recurrence.training = False
        self._recurrences[direction] = recurrence
        self._readers[direction] = TableReader(recurrence)

    def run(self, direction: Direction, ids: Ids, state: Any, places: NDArray[np.int64]) -> tuple[Vectors, Any]:
        lm, recurrence = self._lms[direction], self._recurrences[direction]
        readings = ids.shape[1]
        weight = lm.embedding.weight
        with torch.inference_mode():
            characters = torch.from_numpy(ids.astype(np.int64)).to(weight.device)
            state = recurrence.initial_state(readings) if state is None else first_readings(state, readings)
            by_step_loop = weight.device.type == "cpu" and weight.dtype == torch.float32
            if by_step_loop and (lm.config.cell != "lstm" or readings >= FUSED_UP_TO):
                states, state = self._readers[direction](weight, characters, state)
            else:
                states, state = recurrence(lm.embedding(characters), state)
            wanted = states.flatten(0, 1).index_select(0, torch.from_numpy(places).to(weight.device))
            if lm.proj is not None:
                wanted = lm.proj(wanted)
            return wanted.float().cpu().numpy(), state


def first_readings(state: State, count: int) -> State:
    """Of the first readings. Shape: (num_layers, count, hidden) each"""
    return map_state(lambda tensor: tensor[:, :count].contiguous(), state)


def read_batch(engine: Engine, direction: Direction, readings: Sequence[Reading], encode: Encode) -> list[Vectors]:
    """The wanted states of readings side by side, each from the zero state.

    Args:
        engine: what runs the model.
        direction: which model.
        readings: the longest first; each wants a state at least.
        encode: characters to ids.

    Returns:
        The states, one array a reading. Shape: (words, output_size) each
    """
    found: Vectors | None = None
    state = None
    for ids, here, places in iter_chunks(readings, encode):
        vectors, state = engine.run(direction, ids, state, places)
        if found is None:
            found = np.empty((sum(len(reading.positions) for reading in readings), vectors.shape[1]), dtype=np.float32)
        found[here] = vectors
    assert found is not None
    return np.split(found, np.cumsum([len(reading.positions) for reading in readings])[:-1])


def iter_chunks(
    readings: Sequence[Reading], encode: Encode
) -> Iterator[tuple[Ids, NDArray[np.int64], NDArray[np.int64]]]:
    """How readings side by side are read.

    Args:
        readings: the longest first; each wants a state at least.
        encode: characters to ids.

    Yields:
        Characters to read on, of as many readings as before or of the first ones; which of the wanted states, counted
        over all readings, are met in them; and where: character · readings + reading. Shape: (characters, readings),
        (wanted,), (wanted,)
    """
    encoded = [encode(reading.read(0, reading.length)) for reading in readings]
    positions = np.concatenate([reading.positions for reading in readings])
    columns = np.repeat(np.arange(len(readings)), [len(reading.positions) for reading in readings])
    by_time = np.argsort(positions, kind="stable")
    for start, stop, active in plan_chunks(np.array([reading.length for reading in readings])):
        ids = np.zeros((stop - start, active), dtype=np.int32)
        for column, characters in enumerate(encoded[:active]):
            piece = characters[start:stop]
            ids[: len(piece), column] = piece
        here = by_time[slice(*np.searchsorted(positions, [start, stop], sorter=by_time))]
        yield ids, here, (positions[here] - start) * active + columns[here]


def read_on(
    engine: Engine,
    direction: Direction,
    text: str,
    state: Any,
    positions: NDArray[np.int64],
    encode: Encode,
) -> tuple[Vectors, Any]:
    """One reading, from a state.

    Args:
        engine: what runs the model.
        direction: which model.
        text: what is read, all of it.
        state: what an earlier call has returned; None to start.
        positions: characters of `text` after which states are wanted, in rising order. Shape: (words,)
        encode: characters to ids.

    Returns:
        The states, and the state to go on from. Shape: (words, output_size)
    """
    found = []
    for start in range(0, len(text), CHUNK_CHARACTERS):
        ids = encode(text[start : start + CHUNK_CHARACTERS])
        first, last = np.searchsorted(positions, [start, start + len(ids)])
        vectors, state = engine.run(direction, ids[:, None], state, positions[first:last] - start)
        found.append(vectors)
    return np.concatenate(found), state
