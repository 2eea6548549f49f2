"""Reading on a GPU: the schedule, on a device that only pretends to be one, and the vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers import AWKWARD_TEXTS, small_model

from charembed import CharEmbedder
from charembed.embedding.device_reader import MAX_QUEUED, DeviceReader
from charembed.embedding.limits import EmbeddingLimits
from charembed.embedding.torch_engine import TorchEngine
from charembed.lm.model import DIRECTIONS
from charembed.util.streams import DeviceQueue, HostCopy

CELLS = ["lstm", "peephole_lstm", "gru", "mgu", "elman"]
TEXTS = [*(text[:60] for text in AWKWARD_TEXTS), *(f"A text of {'many ' * k}words." for k in range(30))]


class LoggedCopy(HostCopy):
    """A copy that records when it is waited for."""

    def __init__(self, tensor: torch.Tensor, number: int, log: list[str]) -> None:
        super().__init__(tensor)
        self._number = number
        self._log = log

    def wait(self) -> torch.Tensor:
        self._log.append(f"wait {self._number}")
        return super().wait()


class PretendedQueue(DeviceQueue):
    """A queue on the CPU that pretends to have some free memory, and records what is sent, fetched and waited for."""

    def __init__(self, log: list[str], free: int = 0) -> None:
        super().__init__(torch.device("cpu"))
        self._log = log
        self._free = free

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        self._log.append(f"send {sum(event.startswith('send') for event in self._log)}")
        return super().send(tensor)

    def fetch(self, tensor: torch.Tensor) -> HostCopy:
        number = sum(event.startswith("fetch") for event in self._log)
        self._log.append(f"fetch {number}")
        return LoggedCopy(tensor, number, self._log)

    def free_bytes(self) -> int:
        return self._free


def pretend_gpu(embedder: CharEmbedder, log: list[str], free: int = 0) -> TorchEngine:
    """Make an embedder on a CPU read as on a GPU; return its engine."""
    setup = embedder._engines.setup
    assert isinstance(setup.engine, TorchEngine)
    reader = DeviceReader(setup.engine, {direction: PretendedQueue(log, free) for direction in DIRECTIONS})
    embedder._engines.setup = dataclasses.replace(setup, device_reader=reader)
    return setup.engine


@pytest.fixture
def on_pretended_gpu() -> Iterator[tuple[CharEmbedder, list[str]]]:
    log: list[str] = []
    embedder = CharEmbedder(small_model(), engine="torch", batch_size=10)
    pretend_gpu(embedder, log)
    return embedder, log


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("chunk_characters", [30, 8192])
def test_vectors_are_those_of_the_cpu(cell, chunk_characters: int) -> None:
    model = small_model(cell=cell, num_layers=2, proj_size=3)
    expected = CharEmbedder(model, engine="torch").embed(TEXTS)
    embedder = CharEmbedder(
        model, engine="torch", batch_size=10, limits=EmbeddingLimits(chunk_characters=chunk_characters)
    )
    pretend_gpu(embedder, [])
    for ours, reference in zip(embedder.embed(TEXTS), expected, strict=True):
        assert ours.spans == reference.spans
        assert np.allclose(ours.vectors, reference.vectors, atol=1e-6)


def test_the_next_batches_are_prepared_before_the_host_waits(on_pretended_gpu) -> None:
    embedder, log = on_pretended_gpu
    embedder.embed(TEXTS)
    count = len([event for event in log if event.startswith("wait")])
    assert count > 2 * (MAX_QUEUED + 1), "too few batches to show an order"
    expected, waited = [], 0
    for number in range(count):
        expected += [f"send {number}", f"fetch {number}"]
        if number >= MAX_QUEUED:
            expected.append(f"wait {waited}")
            waited += 1
    assert log == expected + [f"wait {number}" for number in range(waited, count)]


def test_chunks_grow_with_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = {}
    for free in (0, 200_000, 10**9):
        embedder = CharEmbedder(small_model(), engine="torch", limits=EmbeddingLimits(chunk_characters=50))
        engine = pretend_gpu(embedder, [], free)
        sizes: list[int] = []
        original = engine.states

        def states(direction, characters, state, original=original, sizes=sizes):
            sizes.append(characters.numel())
            return original(direction, characters, state)

        monkeypatch.setattr(engine, "states", states)
        embedder.embed(TEXTS[-10:])
        largest[free] = max(sizes)
    # A quarter of the memory for two directions; a character has 5 + 6 · 12 numbers of 4 bytes.
    assert largest[0] <= 50 < largest[200_000] <= 200_000 / 8 / (77 * 4) < largest[10**9]


def test_only_words_need_no_device(with_words) -> None:
    embedder = CharEmbedder(with_words, engine="torch", parts=["words"])
    pretend_gpu(embedder, log := [])
    assert embedder.embed(["The lazy dog."])[0].vectors.any()
    assert not log


@pytest.mark.gpu
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpu_gives_the_vectors_of_the_cpu_without_waiting(cell, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = CharEmbedder(small_model(cell=cell), engine="torch").embed(TEXTS)
    embedder = CharEmbedder(small_model(cell=cell), device="cuda", batch_size=10)
    embedder.embed(TEXTS)  # loads libraries, which may wait
    original = DeviceReader._queue_batch

    def queue_batch(self, *arguments):
        """Fail where the host waits for the device."""
        torch.cuda.set_sync_debug_mode("error")
        try:
            return original(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(DeviceReader, "_queue_batch", queue_batch)
    for ours, reference in zip(embedder.embed(TEXTS), expected, strict=True):
        assert np.allclose(ours.vectors, reference.vectors, atol=1e-5)
