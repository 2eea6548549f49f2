"""Speed and memory of each recurrence, against `torch.nn.LSTM` in the same run.

    python -m scripts.benchmarks.recurrent
    python -m scripts.benchmarks.recurrent --device cuda --hidden_sizes '[1024]' --batch 128

One thread, all candidates in turn, so that other work on the machine hits them alike. A rate counts useful work alone:
two floating-point operations a weight, step and sequence, and in training three times that. The ratio is the median
over the rounds of a candidate's rate to `nn.LSTM`'s in the same round. Memory is the growth of the peak resident set in
one training step, in a process of its own (Linux), divided by the number of gates; on CUDA that of what PyTorch has
allocated.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import nn

from charembed.recurrent import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM

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
"""Module and number of gates; the first is what the others are measured against."""
PEER = "torch.nn.LSTM"
WARM_UP = 5
"""Rounds that do not count; on CUDA, graphs are captured in them."""


class Bench:
    """One module and what it reads."""

    def __init__(self, name: str, input_size: int, hidden_size: int, batch: int, steps: int, device: str) -> None:
        torch.manual_seed(0)
        build, self.gates = CANDIDATES[name]
        self.module = build(input_size, hidden_size).to(device)
        self.input = torch.randn(steps, batch, input_size, device=device, requires_grad=True)
        self.d_output = torch.randn(steps, batch, hidden_size, device=device)
        matrices = sum(p.numel() for n, p in self.module.named_parameters() if n.startswith(("weight_ih", "weight_hh")))
        self.flops = 2 * matrices * steps * batch

    def train(self) -> None:
        self.module.zero_grad()
        self.input.grad = None
        output, _ = self.module(self.input)
        output.backward(self.d_output)

    def infer(self) -> None:
        with torch.inference_mode():
            self.module(self.input)


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def gflops(work: Callable[[], None], flops: int, device: str) -> float:
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return flops / (time.perf_counter() - start) / 1e9


def peak_growth(name: str, input_size: int, hidden_size: int, batch: int, steps: int, device: str) -> float:
    """MiB by which a training step lifts the peak of a fresh process, a gate."""
    torch.set_num_threads(1)
    Bench(name, 8, 8, batch, steps, device).train()  # loads what is loaded once
    bench = Bench(name, input_size, hidden_size, batch, steps, device)
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        for _ in range(WARM_UP):
            bench.train()
        torch.cuda.reset_peak_memory_stats()
        bench.train()
        return (torch.cuda.max_memory_allocated() - before) / 2**20 / bench.gates
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is used now
    before = resident("VmRSS")
    bench.train()
    return (resident("VmHWM") - before) / 1024 / bench.gates


def resident(field: str) -> int:
    """A figure of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main(
    hidden_sizes: tuple[int, ...] = (512, 1024),
    input_size: int = 64,
    batch: int = 32,
    steps: int = 128,
    rounds: int = 15,
    device: str = "cpu",
) -> None:
    """Print a table for each hidden size.

    Args:
        hidden_sizes: widths of the hidden state.
        input_size: width of the input; 64 is that of the character embedding in the default language model.
        batch: sequences side by side.
        steps: time steps.
        rounds: how often each candidate runs.
        device: cpu or cuda.
    """
    torch.set_num_threads(1)
    for hidden_size in hidden_sizes:
        shape = (input_size, hidden_size, batch, steps, device)
        benches = {name: Bench(name, *shape) for name in CANDIDATES}
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in benches}
        for number in range(-WARM_UP, rounds):
            for name, bench in benches.items():
                pair = gflops(bench.train, 3 * bench.flops, device), gflops(bench.infer, bench.flops, device)
                if number >= 0:
                    rates[name].append(pair)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            memory = dict(
                zip(benches, pool.map(peak_growth, benches, *([n] * len(benches) for n in shape)), strict=True)
            )

        print(f"\nhidden {hidden_size}, input {input_size}, batch {batch}, {steps} steps, {device}, {rounds} rounds\n")
        print("| | training, GFLOP/s | of nn.LSTM's | inference, GFLOP/s | of nn.LSTM's | MiB a gate | of nn.LSTM's |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, pairs in rates.items():
            cells = []
            for phase in (0, 1):
                rate = statistics.median(pair[phase] for pair in pairs)
                ratio = statistics.median(a[phase] / b[phase] for a, b in zip(pairs, rates[PEER], strict=True))
                cells += [f"{rate:.0f}", f"{ratio:.2f}"]
            cells += [f"{memory[name]:.0f}", f"{memory[name] / memory[PEER]:.2f}"]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
