"""Measure speed and memory of each recurrence against `torch.nn.LSTM` in the same run.

    python -m scripts.benchmarks.recurrent
    python -m scripts.benchmarks.recurrent --device cuda --hidden-sizes '[1024]' --batch 128

All candidates run in turn with one thread, so that other load on the machine affects all of them alike. Rates count
useful work only: two floating-point operations per weight, time step and sequence, three times that in training.
Ratios are the median over rounds of a candidate's rate to `nn.LSTM`'s in the same round. Memory is the growth of the
peak resident set in one training step in a separate process (Linux), divided by the number of gates; on CUDA it is the
growth of the memory that PyTorch has allocated. Needs `charembed[dev]`.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from charembed.cli.runner import run_script
from charembed.recurrent import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM
from charembed.recurrent.float32_precision import float32_products

CANDIDATES: dict[str, tuple[Callable[[int, int], nn.Module], int]] = {
    "torch.nn.LSTM": (nn.LSTM, 4),
    "LSTM": (LSTM, 4),
    "PeepholeLSTM": (PeepholeLSTM, 4),
    "PeepholeLSTM previous": (lambda i, h: PeepholeLSTM(i, h, output_gate="previous"), 4),
    "GRU": (GRU, 3),
    "GRU reset_after": (lambda i, h: GRU(i, h, reset_after=True), 3),
    "MGU": (MGU, 2),
    "ElmanRNN": (ElmanRNN, 1),
    "torch.nn.GRU": (nn.GRU, 3),
    "torch.nn.RNN": (nn.RNN, 1),
}
"""Module and number of gates of each candidate."""
REFERENCE = "torch.nn.LSTM"
"""The candidate that ratios are relative to."""
WARM_UP = 5
"""Rounds that are not counted; on CUDA, graphs are captured in them."""


@dataclass(frozen=True)
class Shape:
    """What the candidates read."""

    input_size: int
    """Width of the input."""
    hidden_size: int
    """Width of the hidden state."""
    batch: int
    """Number of sequences."""
    steps: int
    """Time steps."""
    device: str
    """Device of weights and input."""


class Candidate:
    """A recurrent module with its input."""

    def __init__(self, name: str, shape: Shape) -> None:
        """
        Args:
            name: one of `CANDIDATES`.
            shape: sizes of module and input.
        """
        torch.manual_seed(0)
        build, self.gates = CANDIDATES[name]
        self.device = shape.device
        self.module = build(shape.input_size, shape.hidden_size).to(shape.device)
        self.input = torch.randn(shape.steps, shape.batch, shape.input_size, device=shape.device, requires_grad=True)
        self.d_output = torch.randn(shape.steps, shape.batch, shape.hidden_size, device=shape.device)
        matrices = sum(p.numel() for n, p in self.module.named_parameters() if n.startswith(("weight_ih", "weight_hh")))
        self.flops = 2 * matrices * shape.steps * shape.batch

    def train(self) -> None:
        """Run a forward and a backward pass."""
        self.module.zero_grad()
        self.input.grad = None  # otherwise gradients accumulate, which is more work
        output, _ = self.module(self.input)
        output.backward(self.d_output)

    def infer(self) -> None:
        """Run a forward pass without gradients."""
        with torch.inference_mode():
            self.module(self.input)

    def measure(self) -> tuple[float, float]:
        """Return the GFLOP/s of training and of inference."""
        return self._gflops(self.train, 3 * self.flops), self._gflops(self.infer, self.flops)

    def _gflops(self, work: Callable[[], None], flops: int) -> float:
        synchronize(self.device)
        start = time.perf_counter()
        work()
        synchronize(self.device)
        return flops / (time.perf_counter() - start) / 1e9


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device != "cpu":
        torch.cuda.synchronize()


def peak_growth(name: str, shape: Shape) -> float:
    """Return the MiB per gate by which a training step raises the peak memory of this process."""
    torch.set_num_threads(1)
    Candidate(name, Shape(8, 8, shape.batch, shape.steps, shape.device)).train()  # loads libraries
    candidate = Candidate(name, shape)
    if shape.device != "cpu":
        before = torch.cuda.memory_allocated()
        for _ in range(WARM_UP):
            candidate.train()
        torch.cuda.reset_peak_memory_stats()
        candidate.train()
        return (torch.cuda.max_memory_allocated() - before) / 2**20 / candidate.gates
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak to the current size
    before = read_status("VmRSS")
    candidate.train()
    return (read_status("VmHWM") - before) / 1024 / candidate.gates


def read_status(field: str) -> int:
    """Return a field of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main(
    hidden_sizes: tuple[int, ...] = (512, 1024),
    input_size: int = 64,
    batch: int = 32,
    steps: int = 128,
    rounds: int = 15,
    device: str = "cpu",
    precision: str = "float32",
) -> None:
    """Measure all recurrences, and print a table for each hidden size.

    Args:
        hidden_sizes: widths of the hidden state.
        input_size: width of the input; the default is that of the character embedding in the default language model.
        batch: number of sequences.
        steps: time steps.
        rounds: number of measurements of each candidate.
        device: cpu or cuda.
        precision: float32 or tf32, in which all candidates compute on CUDA.
    """
    torch.set_num_threads(1)
    for hidden_size in hidden_sizes:
        # Each measurement of memory needs a process of its own, whose peak nothing else has raised.
        shape = Shape(input_size, hidden_size, batch, steps, device)
        with float32_products(torch.device(device), precision):
            rates = _measure_rates(shape, rounds)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            memory = dict(zip(rates, pool.map(peak_growth, rates, [shape] * len(rates)), strict=True))
        rows = []
        for name, pairs in rates.items():
            cells = [name]
            for phase in (0, 1):  # training, inference
                ratios = (own[phase] / other[phase] for own, other in zip(pairs, rates[REFERENCE], strict=True))
                rate = statistics.median(pair[phase] for pair in pairs)
                cells += [f"{rate:.0f}", f"{statistics.median(ratios):.2f}"]
            rows.append([*cells, f"{memory[name]:.0f}", f"{memory[name] / memory[REFERENCE]:.2f}"])
        print(f"\nhidden {hidden_size}, input {input_size}, batch {batch}, {steps} steps")
        print(f"{device}, {precision}, {rounds} rounds\n")
        headers = ["", "training, GFLOP/s", "training, relative", "inference, GFLOP/s", "inference, relative"]
        headers += ["MiB per gate", "MiB, relative"]
        print(tabulate(rows, headers, tablefmt="github", disable_numparse=True), flush=True)


def _measure_rates(shape: Shape, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the GFLOP/s of training and inference of each candidate in each round."""
    candidates = {name: Candidate(name, shape) for name in CANDIDATES}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(-WARM_UP, rounds):
        for name, candidate in candidates.items():
            pair = candidate.measure()
            if number >= 0:
                rates[name].append(pair)
    return rates


if __name__ == "__main__":
    run_script(main)
