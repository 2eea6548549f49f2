"""Measure training: its use of the machine, both directions at once, its memory, and a race against Flair's trainer.

    python -m scripts.benchmarks.training speed
    python -m scripts.benchmarks.training speed --device cuda --batch-sizes '[512]' --precisions '[bfloat16]'
    python -m scripts.benchmarks.training race en_wiki/train_00.txt.xz en_wiki/dev.txt.xz
    python -m scripts.benchmarks.training memory en_wiki/train_00.txt.xz en_wiki/dev.txt.xz

All candidates are measured in turn within one run, and medians are printed. In the race, both trainers run at the same
time, each with one thread on its own core. Needs `charembed[dev]`, and `charembed[flair]` for the race.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tabulate import tabulate

from charembed import CharLM, CharLMConfig, CharVocab, TrainConfig, train
from charembed.cli.runner import run_script
from charembed.dataset.windows import EpochText
from charembed.lm.model import DIRECTIONS, Direction
from charembed.lm.scoring import score
from charembed.recurrent.translation import load_torch_weights
from charembed.text.corpus import Corpus, CorpusConfig, document_texts
from charembed.training.allocator import keep_freed_memory
from charembed.training.direction_trainer import DirectionTrainer
from charembed.training.distributed import DistributedContext
from charembed.training.schedule import BudgetConfig
from charembed.util.streams import DeviceQueue, side_by_side
from charembed.util.workers import WorkerPool
from scripts.benchmarks.interleaved import interleaved
from scripts.benchmarks.process import measure_process, write_repeated
from scripts.benchmarks.reference_products import bfloat16_product, reference_products

DEV_BYTES = 150_000
VOCAB_SIZE = 250
"""Number of characters of the random text that speed is measured on."""
FLAIR_REPORTS = 4
"""Number of times that Flair's model is scored during the race, at equal distances."""


def speed(
    hidden_sizes: list[int] = [512, 1024],  # noqa: B006 (the form that a command line shows)
    batch_sizes: list[int] = [8, 16, 32],  # noqa: B006
    precisions: list[Literal["float32", "bfloat16"]] = ["float32", "bfloat16"],  # noqa: B006
    rounds: int = 9,
    steps: int = 4,
    device: str = "cpu",
) -> None:
    """Measure training FLOP/s against the machine's matrix products, and both directions at once against in turn.

    Args:
        hidden_sizes: hidden sizes of the LSTM.
        batch_sizes: numbers of lanes; windows are 64 characters long.
        precisions: precisions of the computation.
        rounds: number of measurements.
        steps: optimizer steps per measurement.
        device: device to train on.
    """
    # As charembed train does: memory stays with the process, and each direction has one thread.
    keep_freed_memory()
    torch.set_num_threads(1)
    headers = ["hidden", "batch", "precision", "training, GFLOP/s", "sgemm, GFLOP/s", "relative to sgemm"]
    headers += ["fastest product, GFLOP/s", "relative to the fastest product", "speed-up of both directions at once"]
    headers.append("characters/s in each direction")
    for hidden_size in hidden_sizes:
        rows = []
        for batch_size, precision in itertools.product(batch_sizes, precisions):
            config = TrainConfig(
                output="unused",
                data=CorpusConfig(train="unused"),
                model=CharLMConfig(hidden_size=hidden_size, vocab_size=VOCAB_SIZE),
                batch_size=batch_size,
                precision=precision,
                device=device,
            )
            rows.append([str(hidden_size), str(batch_size), precision, *_measure_speed(config, rounds, steps)])
        print("\n" + tabulate(rows, headers, tablefmt="github", disable_numparse=True), flush=True)


def _measure_speed(config: TrainConfig, rounds: int, steps: int) -> list[str]:
    """Measure training steps and products of matrices in turn, and return the cells of the table."""
    run_steps = _training_steps(config, steps)

    def run_in_turn() -> None:
        run_steps("forward")
        run_steps("backward")

    products = reference_products(config.device)
    if config.device != "cpu":
        products["bfloat16"] = bfloat16_product(config.device)
    kinds: dict[str, Callable[[], Any]] = {
        "one direction": lambda: run_steps("forward"),
        "in turn": run_in_turn,
        "at once": lambda: run_steps("forward", "backward"),
    }
    kinds |= {name: product.run for name, product in products.items()}
    times = interleaved(kinds, rounds)

    # Forward and backward pass: three times the multiply-adds of the weights, once per character.
    hidden_size = config.model.hidden_size
    weights = 4 * hidden_size * (config.model.embedding_dim + hidden_size) + hidden_size * VOCAB_SIZE
    characters = config.step_options.characters_per_step() * steps
    useful = 3 * 2 * weights * characters
    training = [useful / seconds for seconds in times["one direction"]]
    rates = {name: [product.flops / seconds for seconds in times[name]] for name, product in products.items()}
    sgemm = rates["torch.mm"]
    fastest = [max(each) for each in zip(*rates.values(), strict=True)]
    return [
        f"{statistics.median(training) / 1e9:.0f}",
        f"{statistics.median(sgemm) / 1e9:.0f}",
        f"{_median_ratio(training, sgemm):.2f}",
        f"{statistics.median(fastest) / 1e9:.0f}",
        f"{_median_ratio(training, fastest):.2f}",
        f"{_median_ratio(times['in turn'], times['at once']):.2f}",
        f"{characters / statistics.median(times['at once']):,.0f}",
    ]


def _training_steps(config: TrainConfig, steps: int) -> Callable[..., None]:
    """Return a function that runs some training steps of the given directions, at the same time."""
    # Random text: speed does not depend on what is read.
    ids = np.random.default_rng(1).integers(VOCAB_SIZE, size=1_000_000).astype(np.uint16)
    text = EpochText(ids, np.array([[0, len(ids)]]), seed=1, epoch=0)
    trainers: dict[Direction, DirectionTrainer] = {}
    for direction in DIRECTIONS:
        trainers[direction] = DirectionTrainer(
            CharLM(config.model).to(config.device), direction, config.step_options, DistributedContext()
        )
        trainers[direction].start_epoch(text)
    pool = WorkerPool()
    queues = {direction: DeviceQueue(torch.device(config.device)) for direction in DIRECTIONS}
    numbers = itertools.count()

    def run_step(number: int, direction: Direction) -> None:
        with queues[direction].active():
            trainers[direction].step(number, lr=1e-4)

    def run_steps(*directions: Direction) -> None:
        for _ in range(steps):
            # As in training, each step begins when the one before has ended in all directions.
            with side_by_side(queues.values()):
                pool.map(partial(run_step, next(numbers) % trainers["forward"].steps_per_epoch), directions)

    return run_steps


def _median_ratio(left: list[float], right: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(left, right, strict=True))


@dataclass(frozen=True)
class _Side:
    """One trainer in the race."""

    trainer: Literal["flair", "charembed"]
    """Which trainer."""
    minutes: float
    """Training time."""
    hidden_size: int
    """Hidden size of the model."""
    seed: int
    """Seed of the run."""
    folder: Path
    """Folder with the texts train.txt and dev.txt."""

    def run(self, core: int, sender: Any) -> None:
        """Train on one core, and send the rows of the table."""
        # One core per side, so that neither can take time from the other.
        os.sched_setaffinity(0, {core})
        sender.send(self._train_flair() if self.trainer == "flair" else self._train_charembed())

    def _train_charembed(self) -> list[list[str]]:
        result = train(
            TrainConfig(
                output=str(self.folder / f"run-{self.minutes:g}"),
                data=CorpusConfig(train=str(self.folder / "train.txt"), valid=str(self.folder / "dev.txt")),
                model=CharLMConfig(hidden_size=self.hidden_size),
                budget=BudgetConfig(minutes=self.minutes),
                direction="forward",
                validations=1,
                words="none",
                seed=self.seed,
            )
        )
        assert result.last is not None
        return [self._row(60 * self.minutes, result.last.characters, result.last.bits_per_character)]

    def _train_flair(self) -> list[list[str]]:
        from scripts.quality.train_flair_language_model import Clock, FlairRun, write_corpus

        logging.getLogger("flair").setLevel(logging.WARNING)
        text, dev = ((self.folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("train", "dev"))
        vocab, dictionary = write_corpus(text, dev, self.folder / "flair")
        ids = vocab.encode(dev)
        rows: list[list[str]] = []

        def after_step(model: Any, clock: Clock) -> None:
            if clock.seconds >= 60 * self.minutes / FLAIR_REPORTS * (len(rows) + 1):
                rows.append(self._row(clock.seconds, clock.characters, _score_flair(model, ids, vocab)))
            if len(rows) == FLAIR_REPORTS:
                raise KeyboardInterrupt

        run = FlairRun(hidden_size=self.hidden_size, seed=self.seed, random_case_flip=False)
        run.train(self.folder / "flair", dictionary, self.folder / "flair-run", after_step)
        return rows

    def _row(self, seconds: float, characters: int, bits: float) -> list[str]:
        rate = f"{characters / seconds:,.0f}"
        name = f"{self.trainer}, {self.minutes:g} min"
        return [name, f"{seconds / 60:.1f}", f"{characters:,}", rate, f"{bits:.4f}"]


def _score_flair(model: Any, ids: Any, vocab: CharVocab) -> float:
    """Return the bits per character of a Flair language model, computed by our scoring."""
    # Flair's language model has the same layers as charembed's; only the names of its weights differ.
    config = CharLMConfig(embedding_dim=model.embedding_size, hidden_size=model.hidden_size, vocab_size=len(vocab))
    lm = CharLM(config)
    with torch.no_grad():
        lm.embedding.weight.copy_(model.encoder.weight)
        lm.decoder.weight.copy_(model.decoder.weight)
        lm.decoder.bias.copy_(model.decoder.bias)
    load_torch_weights(lm.rnn, {name: tensor.detach().clone() for name, tensor in model.rnn.state_dict().items()})
    return score(lm, ids, vocab).bits_per_character


@dataclass
class Race:
    """Train forward models with Flair's trainer and with ours, on the same text, for the same time, at the same time.

    Flair uses batches of 32 windows of 128 characters, SGD with learning rate 20 and its annealing, no random changes
    of case, splits of a million characters, and its defaults of dropout and embedding size. Reading the text and
    validation do not count as training time on either side. Both models are scored by the same code on the first 150 kB
    of dev. Then come runs of charembed with less time, two at a time.
    """

    train: str
    """Text to train on, as for charembed train."""
    dev: str
    """Text to score on."""
    minutes: float = 20.0
    """Training time of each side."""
    shorter: list[float] = field(default_factory=lambda: [5.0, 3.0])
    """Training times, in minutes, of further runs of charembed."""
    hidden_size: int = 512
    """Hidden size of both."""
    seed: int = 1
    """Seed of both."""
    cores: list[int] = field(default_factory=lambda: [0, 1])
    """Numbers of the two CPU cores to run on."""

    def __call__(self) -> None:
        """Run the race, and print its table."""
        logging.basicConfig(level=logging.WARNING)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # Both sides read the same two files.
            for kind, source, limit in (("train", self.train, None), ("dev", self.dev, DEV_BYTES)):
                _write_beginning(folder / f"{kind}.txt", "".join(document_texts(Corpus(source))).encode(), limit)
            # Flair against charembed for the full time first, then shorter runs of charembed.
            runs: list[tuple[Literal["flair", "charembed"], float]] = [("flair", self.minutes)]
            runs += [("charembed", minutes) for minutes in (self.minutes, *self.shorter)]
            sides = [_Side(trainer, minutes, self.hidden_size, self.seed, folder) for trainer, minutes in runs]
            rows = []
            for first in range(0, len(sides), 2):
                rows += self._run_at_once(sides[first : first + 2])
        headers = ["trainer", "minutes", "characters", "characters per second", "bits per character"]
        print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))

    def _run_at_once(self, sides: list[_Side]) -> list[list[str]]:
        """Run up to two sides at the same time, each in a process on its own core."""
        context = multiprocessing.get_context("spawn")
        running = []
        for core, side in zip(self.cores, sides, strict=False):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=side.run, args=(core, sender))
            process.start()
            running.append((process, receiver))
        rows = []
        for process, receiver in running:
            rows += receiver.recv()
            process.join()
        return rows


def memory(train: str, dev: str, gigabytes: float = 1.0, hidden_size: int = 512) -> None:
    """Measure the peak memory of training on a large text against a small one.

    Args:
        train: text that the large one repeats.
        dev: text to validate on.
        gigabytes: size of the large text.
        hidden_size: hidden size of the model.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "".join(document_texts(Corpus(train))).encode()
        _write_beginning(folder / "small.txt", text, 1_000_000)
        write_repeated(folder / "large.txt", text, 1e9 * gigabytes)
        rows = []
        for kind in ("small", "large"):
            command = [sys.executable, "-m", "charembed", "train", "--data.train", str(folder / f"{kind}.txt")]
            command += ["--data.valid", dev, "--output", str(folder / kind), "--budget.steps", "200"]
            command += ["--validations", "1", "--model.hidden-size", str(hidden_size)]
            usage = measure_process(command)
            size = (folder / f"{kind}.txt").stat().st_size
            on_disk = sum(path.stat().st_size for path in (folder / kind / "text").rglob("*") if path.is_file())
            peak = f"{usage.peak_bytes / 2**20:,.0f}"
            rows.append([kind, f"{size / 1e6:,.0f}", peak, f"{on_disk / 1e6:,.0f}", f"{usage.seconds:.0f}"])
    headers = ["text", "size, MB", "peak memory, MiB", "encoded text on disk, MB", "seconds"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def _write_beginning(path: Path, text: bytes, size: int | None) -> None:
    """Write the first bytes of a UTF-8 text; a character that is cut in two is dropped."""
    path.write_bytes(text[:size].decode(errors="ignore").encode())


if __name__ == "__main__":
    run_script({"speed": speed, "race": Race, "memory": memory}, as_positional=True)
