"""Receives id sequences and the places to read; hands on the hidden states there, and keeps no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.language_model import CharLM
from charembed.recurrent import map_state

MAX_BATCH = 64
"""Sequences side by side: more do not make the matrix products any faster."""
CHUNK = 128
"""Characters a step of the engine: bounds the memory for states, whatever the length of the text."""


@dataclass(frozen=True)
class Reading:
    """One sequence to be read, and where."""

    ids: NDArray[np.int32]
    """Shape: (characters,)"""
    positions: NDArray[np.int64]
    """Indices into `ids` whose state is wanted, in any order, repeated or not. Shape: (words,)"""

    @property
    def length(self) -> int:
        """Characters that must be read: up to the last position."""
        return int(self.positions.max(initial=-1)) + 1


def read_states(lm: CharLM, readings: Sequence[Reading]) -> list[NDArray[np.float32]]:
    """States of a language model after the wanted characters of each sequence, each read from the zero state.

    Sequences run side by side, the longest first, in chunks of time with carried state. Those that have ended leave the
    batch at the next chunk.

    Returns:
        The states, one array a reading. Shape: (words, output_size) each
    """
    nothing = np.empty((0, lm.config.output_size), dtype=np.float32)
    results = [nothing] * len(readings)
    order = sorted((k for k in range(len(readings)) if readings[k].length), key=lambda k: -readings[k].length)
    with torch.inference_mode():
        for first in range(0, len(order), MAX_BATCH):
            members = order[first : first + MAX_BATCH]
            states = _read_batch(lm, [readings[k] for k in members])
            ends = np.cumsum([len(readings[k].positions) for k in members])
            for k, vectors in zip(members, np.split(states, ends[:-1]), strict=True):
                results[k] = vectors
    return results


def _read_batch(lm: CharLM, readings: Sequence[Reading]) -> NDArray[np.float32]:
    """The wanted states of readings sorted by length, the longest first, one reading after the other.

    Returns:
        Shape: (words of all readings, output_size)
    """
    device = lm.decoder.weight.device
    lengths = np.array([reading.length for reading in readings])
    positions = np.concatenate([reading.positions for reading in readings])
    columns = np.repeat(np.arange(len(readings)), [len(reading.positions) for reading in readings])
    by_time = np.argsort(positions, kind="stable")
    found = np.empty((len(positions), lm.config.output_size), dtype=np.float32)
    state = lm.rnn.initial_state(len(readings))
    for start in range(0, int(lengths[0]), CHUNK):
        stop = min(start + CHUNK, int(lengths[0]))
        active = int(np.count_nonzero(lengths > start))
        ids = np.zeros((stop - start, active), dtype=np.int64)
        for column, reading in enumerate(readings[:active]):
            piece = reading.ids[start : min(stop, reading.length)]
            ids[: len(piece), column] = piece
        state = map_state(partial(_first, active), state)
        states, state = lm.hidden_states(torch.from_numpy(ids).to(device), state)
        here = by_time[slice(*np.searchsorted(positions, [start, stop], sorter=by_time))]
        rows = torch.from_numpy((positions[here] - start) * active + columns[here]).to(device)
        found[here] = states.flatten(0, 1).index_select(0, rows).float().cpu().numpy()
    return found


def _first(count: int, state: Tensor) -> Tensor:
    """The first sequences of a batch. Shape: (num_layers, count, hidden)"""
    return state[:, :count].contiguous()
