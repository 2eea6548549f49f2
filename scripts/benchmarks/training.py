"""Measure the trainer: its use of the machine, both directions at once, its memory, and a race against Flair's.

    python -m scripts.benchmarks.training speed
    python -m scripts.benchmarks.training race en_wiki/train_00.txt.xz en_wiki/dev.txt.xz
    python -m scripts.benchmarks.training memory en_wiki/train_00.txt.xz en_wiki/dev.txt.xz

Rates are ratios within one run: repeats are interleaved, and the median is taken. The race needs `charembed[flair]`;
both sides run at the same time, each on one core with one thread.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import auto_cli

from charembed import CharLM, CharLMConfig, CharVocab, TrainConfig, train
from charembed.dataset.windows import EpochText
from charembed.lm.model import DIRECTIONS, Direction
from charembed.lm.scoring import score
from charembed.recurrent.translation import load_torch_weights
from charembed.text.corpus import Corpus, CorpusConfig, document_texts
from charembed.training.allocator import keep_freed_memory
from charembed.training.direction_trainer import DirectionTrainer
from charembed.training.distributed import DistributedContext
from charembed.training.schedule import BudgetConfig
from charembed.util.workers import WorkerPool
from scripts.benchmarks.interleaved import interleaved

DEV_BYTES = 150_000
VOCABULARY = 250
"""Characters of the made-up text that speed is measured with."""


def speed(
    hidden_sizes: list[int] = [512, 1024],  # noqa: B006 (the form in which a command line shows it)
    batch_sizes: list[int] = [8, 16, 32],  # noqa: B006
    precisions: list[Literal["float32", "bfloat16"]] = ["float32", "bfloat16"],  # noqa: B006
    rounds: int = 9,
    steps: int = 4,
) -> None:
    """Training FLOP/s against the machine's matrix products, and both directions at once against one after the other.

    Args:
        hidden_sizes: widths of the LSTM.
        batch_sizes: lanes; windows are 64 characters long.
        precisions: of the computation.
        rounds: how many times to measure everything in turn.
        steps: of the optimiser in one measurement.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    print(
        "| hidden | batch | precision | training, GFLOP/s | sgemm, GFLOP/s | of it | fastest product | of it"
        " | both at once, times as fast |"
    )
    print("| --- " * 9 + "|")
    for hidden_size, batch_size, precision in itertools.product(hidden_sizes, batch_sizes, precisions):
        _print_speed(hidden_size, batch_size, precision, rounds, steps)


def _print_speed(
    hidden_size: int, batch_size: int, precision: Literal["float32", "bfloat16"], rounds: int, steps: int
) -> None:
    config = TrainConfig(
        output="unused",
        data=CorpusConfig(train="unused"),
        model=CharLMConfig(hidden_size=hidden_size, vocab_size=VOCABULARY),
        batch_size=batch_size,
        precision=precision,
    )
    trainers: dict[Direction, DirectionTrainer] = {}
    ids = np.random.default_rng(1).integers(VOCABULARY, size=1_000_000).astype(np.uint16)
    text = EpochText(ids, np.array([[0, len(ids)]]), seed=1, epoch=0)
    for direction in DIRECTIONS:
        trainers[direction] = DirectionTrainer(
            CharLM(config.model), direction, config.step_options, DistributedContext()
        )
        trainers[direction].start_epoch(text)
    pool = WorkerPool()
    numbers = iter(range(10**9))

    def some_steps(*directions: Direction) -> None:
        for _ in range(steps):
            number = next(numbers) % trainers["forward"].steps_per_epoch
            pool.map(lambda direction, k=number: trainers[direction].step(k, lr=1e-4), directions)  # type: ignore[misc]

    def both_in_turn() -> None:
        some_steps("forward")
        some_steps("backward")

    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    kinds: dict[str, Callable[[], Any]] = {
        "one": lambda: some_steps("forward"),
        "both in turn": both_in_turn,
        "both at once": lambda: some_steps("forward", "backward"),
        "sgemm": lambda: [left @ right for _ in range(8)],
    }
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        kinds["onednn"] = lambda: [
            torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "") for _ in range(8)
        ]
    times = interleaved(kinds, rounds)
    weights = 4 * hidden_size * (config.model.embedding_dim + hidden_size) + hidden_size * VOCABULARY
    useful = 3 * 2 * weights * batch_size * config.seq_len * steps
    training = [useful / t for t in times["one"]]
    sgemm = [8 * 2 * 1024**3 / t for t in times["sgemm"]]
    fastest = [max(8 * 2 * 1024**3 / t, s) for t, s in zip(times.get("onednn", times["sgemm"]), sgemm, strict=True)]
    median = statistics.median
    cells = [
        str(hidden_size),
        str(batch_size),
        precision,
        f"{median(training) / 1e9:.0f}",
        f"{median(sgemm) / 1e9:.0f}",
        f"{median(a / b for a, b in zip(training, sgemm, strict=True)):.2f}",
        f"{median(fastest) / 1e9:.0f}",
        f"{median(a / b for a, b in zip(training, fastest, strict=True)):.2f}",
        f"{median(a / b for a, b in zip(times['both in turn'], times['both at once'], strict=True)):.2f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def race(
    train: str,
    dev: str,
    minutes: float = 20.0,
    shorter: list[float] = [5.0, 3.0],  # noqa: B006
    hidden_size: int = 512,
    seed: int = 1,
    cores: list[int] = [0, 1],  # noqa: B006
) -> None:
    """Flair's trainer against ours: the forward direction, the same text and minutes, a core each, at the same time.

    Flair: batch 32, window 128, SGD 20 with its annealing, no random changes of case, splits of a million characters,
    dropout and embedding size its defaults. Reading the text and validating are not charged on either side. Both models
    are scored by the same code on the first 150 kB of dev. Then ours with less time, two runs at a time.

    Args:
        train: text to train on, as for `charembed train`.
        dev: text to score on.
        minutes: for each side.
        shorter: minutes of further runs of ours.
        hidden_size: of both.
        seed: of both.
        cores: numbers of the two cores to run on.
    """
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, source, limit in (("train", train, None), ("dev", dev, DEV_BYTES)):
            text = "".join(document_texts(Corpus(source))).encode()
            (place / f"{name}.txt").write_bytes(text[:limit].decode(errors="ignore").encode())
        jobs = [("flair", minutes), ("charembed", minutes), *(("charembed", less) for less in shorter)]
        context = multiprocessing.get_context("spawn")
        print("| trainer | minutes | characters | characters per second | bits per character |")
        print("| --- " * 5 + "|")
        for first in range(0, len(jobs), 2):
            running = []
            for core, (name, budget) in zip(cores, jobs[first : first + 2], strict=False):
                receiver, sender = context.Pipe(duplex=False)
                run = _flair if name == "flair" else _charembed
                process = context.Process(target=run, args=(sender, place, budget, hidden_size, seed, core))
                process.start()
                running.append((name, budget, process, receiver))
            for name, budget, process, receiver in running:
                for row in receiver.recv():
                    print(f"| {name}, {budget:g} min | {' | '.join(row)} |", flush=True)
                process.join()


def _row(seconds: float, characters: int, bits: float) -> tuple[str, ...]:
    return f"{seconds / 60:.1f}", f"{characters:,}", f"{characters / seconds:,.0f}", f"{bits:.4f}"


def _charembed(sender: Any, place: Path, minutes: float, hidden_size: int, seed: int, core: int) -> None:
    os.sched_setaffinity(0, {core})
    output = place / f"run-{minutes:g}"
    result = train(
        TrainConfig(
            output=str(output),
            data=CorpusConfig(train=str(place / "train.txt"), valid=str(place / "dev.txt")),
            model=CharLMConfig(hidden_size=hidden_size),
            budget=BudgetConfig(minutes=minutes),
            direction="forward",
            validations=1,
            seed=seed,
        )
    )
    assert result.last is not None
    sender.send([_row(60.0 * minutes, result.last.characters, result.last.bits_per_character)])


def _flair(sender: Any, place: Path, minutes: float, hidden_size: int, seed: int, core: int) -> None:
    os.sched_setaffinity(0, {core})
    from scripts.quality.train_flair_language_model import Clock, prepare, train_flair

    logging.getLogger("flair").setLevel(logging.WARNING)
    text, dev = ((place / f"{name}.txt").read_text(encoding="utf-8") for name in ("train", "dev"))
    vocab, dictionary = prepare(text, dev, place / "flair")
    ids = vocab.encode(dev)
    rows: list[tuple[str, ...]] = []

    def after_step(model: Any, clock: Clock) -> None:
        if clock.seconds >= 60.0 * minutes / 4 * (len(rows) + 1):
            rows.append(_row(clock.seconds, clock.characters, _flair_bits(model, ids, vocab)))
        if len(rows) == 4:
            raise KeyboardInterrupt

    train_flair(
        place / "flair",
        dictionary,
        place / "flair-run",
        direction="forward",
        hidden_size=hidden_size,
        seed=seed,
        after_step=after_step,
        random_case_flip=False,
    )
    sender.send(rows)


def _flair_bits(model: Any, ids: Any, vocab: CharVocab) -> float:
    """Of a Flair language model, by the scoring of ours."""
    config = CharLMConfig(embedding_dim=model.embedding_size, hidden_size=model.hidden_size, vocab_size=len(vocab))
    lm = CharLM(config)
    with torch.no_grad():
        lm.embedding.weight.copy_(model.encoder.weight)
        lm.decoder.weight.copy_(model.decoder.weight)
        lm.decoder.bias.copy_(model.decoder.bias)
    load_torch_weights(lm.rnn, {name: tensor.detach().clone() for name, tensor in model.rnn.state_dict().items()})
    return score(lm, ids, vocab).bits_per_character


def memory(train: str, dev: str, gigabytes: float = 1.0, hidden_size: int = 512) -> None:
    """Peak memory of the trainer on a large text against that on a small one.

    Args:
        train: text that the large one is made of, repeated.
        dev: text to validate on.
        gigabytes: of the large text.
        hidden_size: of the model.
    """
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw = "".join(document_texts(Corpus(train))).encode()
        (place / "small.txt").write_bytes(raw[:1_000_000].decode(errors="ignore").encode())
        with (place / "large.txt").open("wb") as file:
            for _ in range(int(gigabytes * 1e9 / len(raw)) + 1):
                file.write(raw)
        peaks = {}
        for name in ("small", "large"):
            command = [sys.executable, "-m", "charembed", "train", "--data.train", str(place / f"{name}.txt")]
            command += ["--data.valid", dev, "--output", str(place / name), "--budget.steps", "200"]
            command += ["--validations", "1", "--model.hidden_size", str(hidden_size)]
            began = time.monotonic()
            peaks[name] = _peak(command)
            size = (place / f"{name}.txt").stat().st_size
            on_disk = sum(path.stat().st_size for path in (place / name / "text").rglob("*") if path.is_file())
            print(
                f"{name}: {size / 1e6:,.0f} MB of text, peak {peaks[name] / 2**20:,.0f} MiB, {on_disk / 1e6:,.0f} MB"
                f" of encoded text on disk, {time.monotonic() - began:.0f} s",
                flush=True,
            )
        print(f"the large text takes {(peaks['large'] - peaks['small']) / 2**20:,.0f} MiB more")


def _peak(command: list[str]) -> int:
    """Bytes that a command's process holds at its peak (Linux)."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return 1024 * usage.ru_maxrss


if __name__ == "__main__":
    auto_cli([speed, race, memory])
