"""Read batches on a GPU: the host prepares the next batches and collects the last ones while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from charembed.embedding.batching import Chunk, Encode, iter_chunks
from charembed.embedding.engine import Vectors
from charembed.embedding.limits import DEFAULT_LIMITS, EmbeddingLimits
from charembed.embedding.passage import Reading
from charembed.embedding.torch_engine import TorchEngine
from charembed.lm.model import Direction
from charembed.util.streams import DeviceQueue, HostCopy

MAX_QUEUED = 2
"""Batches that the device still has to do when the host waits for one: the next one of each direction."""
MEMORY_SHARE = 0.25
"""Share of the free memory of the device that the calls of all directions take. The rest is for states at words, and
because what cuDNN needs is only estimated."""
MAX_ELEMENTS = 2**30
"""Numbers in the largest tensor of a call, well within what 32-bit indices can address."""


@dataclass(frozen=True)
class _QueuedBatch:
    """A batch that the device is reading."""

    states: HostCopy
    """The states at the positions of all readings, one reading after the other. Shape: (words, output_size)"""
    counts: list[int]
    """Number of positions of each reading."""

    def wait(self) -> list[Vectors]:
        """Return the states of each reading once they have arrived. Shape: (words, output_size) each"""
        return np.split(self.states.wait().numpy(), np.cumsum(self.counts)[:-1])


class DeviceReader:
    """Reads batches on a GPU, each direction in a queue of its own.

    A batch is sent in one copy, read without waiting for the device, and fetched in one copy. At most `MAX_QUEUED` + 1
    batches are under way.
    """

    def __init__(self, engine: TorchEngine, queues: Mapping[Direction, DeviceQueue]) -> None:
        """
        Args:
            engine: runs the models, which are on the device.
            queues: where the work of each direction is queued.
        """
        self._engine = engine
        self._queues = queues

    def read_batches(
        self,
        batches: Iterable[tuple[Direction, Sequence[Reading]]],
        encode: Encode,
        limits: EmbeddingLimits = DEFAULT_LIMITS,
    ) -> Iterator[list[Vectors]]:
        """Read batches of readings, each reading from the zero state.

        Args:
            batches: direction and readings of each batch, the longest reading first; each has at least one position.
            encode: maps characters to ids.
            limits: bounds the size of a chunk; it is raised as far as the free memory of the device allows.

        Yields:
            The states at the positions of each batch, in the order of the batches, one array per reading.
            Shape: (words, output_size) each
        """
        own_limits = {direction: self._fit_to_memory(direction, limits) for direction in self._queues}
        for queue in self._queues.values():
            queue.follow_caller()  # which may have changed the weights
        queued: deque[_QueuedBatch] = deque()
        for direction, readings in batches:
            queued.append(self._queue_batch(direction, readings, encode, own_limits[direction]))
            if len(queued) > MAX_QUEUED:
                yield queued.popleft().wait()
        while queued:
            yield queued.popleft().wait()

    def _fit_to_memory(self, direction: Direction, limits: EmbeddingLimits) -> EmbeddingLimits:
        """Return limits with chunks as large as the free memory allows, but not smaller than before."""
        numbers, size = self._engine.numbers_per_character(direction)
        budget = MEMORY_SHARE * self._queues[direction].free_bytes() / len(self._queues)
        characters = min(int(budget / (numbers * size)), MAX_ELEMENTS // numbers)
        return replace(limits, chunk_characters=max(limits.chunk_characters, characters))

    def _queue_batch(
        self, direction: Direction, readings: Sequence[Reading], encode: Encode, limits: EmbeddingLimits
    ) -> _QueuedBatch:
        chunks = list(iter_chunks(readings, encode, limits))
        queue = self._queues[direction]
        with queue.active(), self._engine.inference(direction):
            ids, positions, order = _send(queue, chunks)
            state, selected = None, []
            for chunk, characters, flat_positions in zip(chunks, ids, positions, strict=True):
                states, state = self._engine.states(direction, characters.view(chunk.ids.shape), state)
                if len(flat_positions):
                    selected.append(states.flatten(0, 1).index_select(0, flat_positions))
            # Chunks give states in the order of reading: sort them by reading and position.
            sorted_states = torch.cat(selected).index_select(0, order)
            copy = queue.fetch(self._engine.project(direction, sorted_states).float())
        return _QueuedBatch(copy, [len(reading.positions) for reading in readings])


def _send(queue: DeviceQueue, chunks: Sequence[Chunk]) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
    """Send all that a batch consists of in one copy.

    Returns:
        The characters of each chunk, the positions of each chunk, and the order that sorts the states at the positions
        of all chunks by reading.
    """
    ids = [chunk.ids.ravel() for chunk in chunks]
    positions = [chunk.flat_positions for chunk in chunks]
    order = np.argsort(np.concatenate([chunk.selected for chunk in chunks]))
    pieces = [*ids, *positions, order]
    sent = queue.send(torch.from_numpy(np.concatenate(pieces, dtype=np.int32, casting="same_kind")))
    parts = torch.split(sent, [len(piece) for piece in pieces])
    return parts[: len(chunks)], parts[len(chunks) : -1], parts[-1]
