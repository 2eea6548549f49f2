"""Parts of `scripts/benchmarks/gpu.sh`: sentences to embed, a run that is killed and resumed, and the table of results.

    python -m scripts.benchmarks.gpu sentences runs/gpu/sentences.conll
    python -m scripts.benchmarks.gpu resume runs/gpu/resume --device cuda
    python -m scripts.benchmarks.gpu table runs/gpu

Needs `charembed[dev]`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate

from charembed.cli.runner import run_script
from charembed.errors import CharEmbedError
from charembed.training.checkpoint import Checkpoint, saved_checkpoints

TEXT = Path("configs/data/en_excerpt.txt")
"""Text of the repository that is trained on and embedded."""
VALIDATIONS = 5
"""Validations of the run that is killed, each followed by a checkpoint."""
SECONDS_AFTER_CHECKPOINT = 0.3
"""Time between the checkpoint and the kill, in which steps are taken that the resumed run has to take again."""
OUTCOMES = {"0": "ok", "124": "out of time", "137": "out of time"}
"""What the exit status of a part means; the command `timeout` ends with 124, or 137 if it had to kill the part."""
Row = dict[str, str]


def sentences(output: str) -> None:
    """Write the sentences of the repository's text as a labelled file, for `scripts.benchmarks.embedding speed`.

    Args:
        output: file to write: columns with words and the tag O.
    """
    found = re.split(r"(?<=[.!?])\s+", TEXT.read_text(encoding="utf-8"))
    lines = ["".join(f"{word} O\n" for word in sentence.split()) for sentence in found]
    Path(output).write_text("\n".join(lines), encoding="utf-8")


def resume(folder: str, device: str = "cuda", hidden_size: int = 1024, batch_size: int = 256, steps: int = 400) -> None:
    """Kill a training run between two checkpoints, resume it, and compare it bit for bit with one that was left alone.

    Args:
        folder: where both runs go; earlier ones are replaced.
        device: device to train on.
        hidden_size: hidden size of the models.
        batch_size: lanes of text.
        steps: optimizer steps.

    Raises:
        CharEmbedError: a run fails, ends before it can be killed, or the weights differ.
    """
    whole, parts = Path(folder) / "whole", Path(folder) / "killed"
    options = ["--device", device, "--model.hidden-size", str(hidden_size), "--batch-size", str(batch_size)]
    options += ["--budget.steps", str(steps), "--validations", str(VALIDATIONS), "--words", "none"]
    command = [sys.executable, "-m", "charembed", "train", "--data.train", str(TEXT), *options]
    # The run that is killed, its resumption, and the run in one piece.
    killed_at = _run_and_kill([*command, "--output", str(parts), "--overwrite"], parts / "checkpoints")
    for run in (parts, whole):
        start_over = ["--overwrite"] if run == whole else []
        if subprocess.run([*command, "--output", str(run), *start_over], check=False).returncode:
            raise CharEmbedError(f"the training run in {run} failed")
    # Weights, moments, carried states and generators are in the last checkpoint.
    resumed, expected = (Checkpoint.load(saved_checkpoints(run / "checkpoints")[0]).tensors for run in (parts, whole))
    different = [name for name in expected if not torch.equal(resumed[name], expected[name])]
    if different:
        largest = max(float((resumed[name].double() - expected[name].double()).abs().max()) for name in different)
        raise CharEmbedError(
            f"killed after step {killed_at} of {steps} and resumed: {len(different)} of {len(expected)} tensors of the"
            f" last checkpoint differ, by up to {largest:.1e}"
        )
    print(f"killed after step {killed_at} of {steps} and resumed: all {len(expected)} tensors have the same bits")


def _run_and_kill(command: list[str], checkpoints: Path) -> int:
    """Run a command until it has saved a checkpoint after its first step; return the step.

    Raises:
        CharEmbedError: the command ended first.
    """
    process = subprocess.Popen(command)
    step = 0
    while not step and process.poll() is None:
        time.sleep(0.02)
        step = max((int(path.stem) for path in saved_checkpoints(checkpoints)), default=0)
    time.sleep(SECONDS_AFTER_CHECKPOINT)
    process.kill()
    if process.wait() != -9:
        raise CharEmbedError("the training run ended before it could be killed: give it more steps")
    return step


def table(folder: str) -> None:
    """Print one table of all results.

    Args:
        folder: folder of `gpu.sh`, with the output and the exit status of each part.
    """
    rows: list[list[str]] = []
    for name, read in READERS.items():
        status, seconds = (Path(folder) / f"{name}.status").read_text().split()
        lines = (Path(folder) / f"{name}.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        outcome = OUTCOMES.get(status, f"failed ({status})")
        # What was measured before a failure counts; without anything, the last line says what went wrong.
        results = read(lines) or lines[-1:] or ["no output"]
        rows += [[name, outcome, seconds, results[0]], *(["", "", "", result] for result in results[1:])]
    print(tabulate(rows, ["part", "outcome", "seconds", "result"], tablefmt="github"))


def _last_line(lines: list[str]) -> list[str]:
    return [line.strip("= ") for line in lines[-1:]]


def _of_tables(describe: Callable[[Row], str]) -> Callable[[list[str]], list[str]]:
    """Return a function that describes each row of the tables in some output."""
    return lambda lines: [describe(row) for row in read_tables(lines)]


def read_tables(lines: list[str]) -> list[Row]:
    """Return the rows of all tables in the output of a benchmark, as cells by column."""
    rows: list[Row] = []
    headers: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headers = []
        elif not headers:
            headers = cells
        elif set(line) - set("|-: "):
            rows.append(dict(zip(headers, cells, strict=True)))
    return rows


READERS: dict[str, Callable[[list[str]], list[str]]] = {
    "tests": _last_line,
    "recurrent": _of_tables(
        lambda row: (
            f"{row['']}: {row['training, relative']} in training and {row['inference, relative']} in inference"
            " of torch.nn.LSTM"
        )
    ),
    "training": _of_tables(
        lambda row: (
            f"hidden {row['hidden']}, {row['batch']} lanes, {row['precision']}:"
            f" {row['characters/s in each direction']} characters/s in each direction,"
            f" {row['relative to the fastest product']} of the fastest product"
        )
    ),
    "embedding": _of_tables(
        lambda row: (
            f"hidden {row['hidden']}, {row['engine']}: {row['characters/s']} characters/s,"
            f" {row['relative to Flair']} × Flair"
        )
    ),
    "resume": _last_line,
}
"""For each part of `gpu.sh`, how to find its results in its output."""


if __name__ == "__main__":
    run_script({"sentences": sentences, "resume": resume, "table": table}, as_positional=True)
