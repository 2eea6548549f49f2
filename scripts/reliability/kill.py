"""Kill commands at random moments and flip bits of the files that they read back, and compare what they write.

    python -m scripts.reliability.kill train --kills 50
    python -m scripts.reliability.kill flip --flips 50

`train`, `embed` and `tag` start a command, kill it with SIGKILL at a random moment, start it again, and so on, until it
finishes. What it has written must then be what an uninterrupted command writes, with nothing left behind. `flip` flips
one random bit in one file of an interrupted command and resumes it: the same result or a clear error are right.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from charembed.cli.main import main
from charembed.cli.runner import run_script
from charembed.errors import CharEmbedError
from charembed.training.checkpoint import Checkpoint, saved_checkpoints

ROOT = Path(__file__).parents[2]
EXCERPT = ROOT / "configs" / "data" / "en_excerpt.txt"
MODEL, TAGGER = ROOT / "tests" / "data" / "model-format-1", ROOT / "tests" / "data" / "tagger-format-1"
LOCKS = {".charembed.lock", ".embeddings.lock"}
"""Hidden files that commands leave on purpose."""
# Processes from a server that has imported everything, so that most kills hit the work and not the imports.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["charembed.training.train", "charembed.output.writer", "charembed.tagging.training"])


@dataclass(frozen=True)
class Job:
    """A command that writes to the folder `out`, in a folder of its own."""

    arguments: list[str]
    """The command line without the program's name; paths are relative to the folder."""
    result: Callable[[Path], dict[str, bytes]]
    """Returns what the command must write in the same way every time: contents by name."""

    def start(self, folder: Path) -> multiprocessing.process.BaseProcess:
        """Start the command in a folder; it adds what it prints to `log.txt`."""
        process = _PROCESSES.Process(target=_run, args=(self.arguments, folder))
        process.start()
        return process

    def finish(self, folder: Path) -> int | None:
        """Run the command in a folder to its end and return its exit status."""
        process = self.start(folder)
        process.join()
        return process.exitcode


def _run(arguments: list[str], folder: Path) -> None:
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    sys.exit(main(arguments))


def _training() -> Job:
    options = {
        "data.train": "text.txt",
        "output": "out",
        "words": "none",
        "data.held_out": "0.1",
        "model.hidden_size": "16",
        "model.embedding_dim": "8",
        "objective.words": "200",
        "seq_len": "16",
        "batch_size": "8",
        "budget.steps": "60",
        "validations": "3",
        "checkpoint_minutes": "0.002",
    }
    return Job(["train", *itertools.chain(*((f"--{name}", value) for name, value in options.items()))], _trained)


def _trained(folder: Path) -> dict[str, bytes]:
    """Return the weights of both models and everything in the last checkpoint."""
    out = folder / "out"
    files = {name: (out / name / "model.safetensors").read_bytes() for name in ("best", "last")}
    tensors = Checkpoint.load(saved_checkpoints(out / "checkpoints")[0]).tensors
    return files | {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def _embedding(form: str) -> Job:
    arguments = ["embed", "--model", str(MODEL), "text.txt", "--output", "out", "--format", form, "--shard-mb", "1"]
    return Job([*arguments, "--dim", "3"], _written)


def _predicting(form: str) -> Job:
    return Job(["tag", "predict", str(TAGGER), "text.txt", "-o", f"out.{form}"], _written)


def _tag_training() -> Job:
    arguments = ["tag", "train", "--train", "train.conll", "--model", str(MODEL), "--output", "out"]
    return Job([*arguments, "--fit.epochs", "6"], lambda folder: _files(folder, ["out/tagger.safetensors"]))


def _written(folder: Path) -> dict[str, bytes]:
    """Return all files that a command has written."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return _files(folder, [name for name in names if name.startswith("out") and Path(name).name not in LOCKS])


def _files(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _prepare(folder: Path, characters: int) -> None:
    """Write the input of the commands into a new folder."""
    folder.mkdir()
    text = EXCERPT.read_text(encoding="utf-8")[:characters]
    (folder / "text.txt").write_text(text, encoding="utf-8")
    words = text.split()[:2000]
    lines = (f"{word} {'B-A' if word.istitle() else 'O'}\n" + "\n" * (k % 9 == 8) for k, word in enumerate(words))
    (folder / "train.conll").write_text("".join(lines), encoding="utf-8")


def _check(job: Job, folder: Path, expected: dict[str, bytes]) -> None:
    """Raise an error unless a folder has the result of a command and nothing else that is hidden."""
    result = job.result(folder)
    different = [name for name in expected.keys() | result.keys() if expected.get(name) != result.get(name)]
    hidden = [path.name for path in folder.rglob(".*") if path.name not in LOCKS]
    if different or hidden:
        raise CharEmbedError(f"{folder}: different: {different}; left behind: {hidden}; see log.txt there")


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """Yield a temporary folder, which is kept after an error."""
    folder = Path(tempfile.mkdtemp(prefix="charembed-kill-"))
    yield folder
    shutil.rmtree(folder)


def _kill(job: Job, kills: int, characters: int, seed: int) -> str:
    """Kill a command again and again; return a line about it."""
    generator, killed, runs = random.Random(seed), 0, 0
    with _work_folder() as work, tqdm(total=kills, unit="kill") as progress:
        _prepare(work / "whole", characters)
        began = time.monotonic()
        if job.finish(work / "whole"):
            raise CharEmbedError(f"{work / 'whole'}: the uninterrupted command failed; see log.txt there")
        seconds, expected = time.monotonic() - began, job.result(work / "whole")
        while killed < kills:
            folder = work / "killed"
            _prepare(folder, characters)
            while True:
                process = job.start(folder)
                process.join(generator.uniform(0, seconds) if killed < kills else None)
                if process.exitcode is None:
                    process.kill()
                    process.join()
                    killed += 1
                    progress.update()
                elif process.exitcode == 0:
                    break
                else:
                    raise CharEmbedError(f"{folder}: the command failed after a kill; see log.txt there")
            _check(job, folder, expected)
            shutil.rmtree(folder)
            runs += 1
    return f"{killed} kills in {runs} runs of {seconds:.1f} s: all equal, nothing left behind"


def train(kills: int = 50, seed: int = 1) -> None:
    """Kill training at random moments: encoding, counting words, steps, validations and checkpoints.

    Args:
        kills: number of kills.
        seed: seed of the moments.
    """
    print("train:", _kill(_training(), kills, 20_000, seed))


def embed(kills: int = 20, formats: list[Literal["npz", "parquet", "arrow"]] | None = None, seed: int = 1) -> None:
    """Kill the embedding of a corpus at random moments.

    Args:
        kills: number of kills in each format.
        formats: the formats; all by default.
        seed: seed of the moments.
    """
    for form in formats or ["npz", "parquet", "arrow"]:
        print(f"embed {form}:", _kill(_embedding(form), kills, 120_000, seed))


def tag(kills: int = 20, seed: int = 1) -> None:
    """Kill tagging at random moments.

    Args:
        kills: number of kills in each format.
        seed: seed of the moments.
    """
    for form in ("jsonl", "conll"):
        print(f"tag predict {form}:", _kill(_predicting(form), kills, 30_000, seed))


def flip(flips: int = 60, seed: int = 1) -> None:
    """Flip single bits of the files that training, tagger training and embedding read back.

    Args:
        flips: number of flips, spread evenly over the files.
        seed: seed of the bits.
    """
    jobs = {"train": _training(), "tag train": _tag_training(), "embed": _embedding("npz")}
    generator, outcomes = random.Random(seed), collections.Counter[tuple[str, str]]()
    with _work_folder() as work:
        cases: list[tuple[str, str]] = []
        expected: dict[str, dict[str, bytes]] = {}
        for name, job in jobs.items():
            _prepare(work / name, 60_000)
            shutil.copytree(work / name, work / f"{name} whole")
            job.finish(work / f"{name} whole")
            expected[name] = job.result(work / f"{name} whole")
            cases += [(name, file) for file in _interrupt(job, work / name)]
        for number in tqdm(range(flips), unit="flip"):
            name, file = cases[number % len(cases)]
            folder = work / "flipped"
            shutil.copytree(work / name, folder)
            _flip_bit(folder / file, generator)
            outcomes[f"{name}, {_kind(file)}", _outcome(jobs[name], folder, expected[name])] += 1
            shutil.rmtree(folder)
    for (file, outcome), count in sorted(outcomes.items()):
        print(f"{file}: {outcome}: {count}")


def _interrupt(job: Job, folder: Path) -> list[str]:
    """Start a command and kill it when it has written files that it would read back; return their names."""
    process = job.start(folder)
    while True:
        files = [path for path in (folder / "out").rglob("*") if path.is_file() and not path.name.startswith(".")]
        names = [str(path.relative_to(folder)) for path in files if _is_read_back(path)]
        kinds = {_kind(name) for name in names}
        if kinds & {"checkpoint.safetensors", "part-*"} or sum("checkpoints" in name for name in names) > 1:
            break
        if process.exitcode is not None:
            raise CharEmbedError(f"{folder}: the command ended before it could be killed; see log.txt there")
        time.sleep(0.002)
    process.kill()
    process.join()
    newest = max((name for name in names if "checkpoints" in name), default="")
    return [name for name in names if "checkpoints" not in name or name == newest if "part-" not in name]


def _is_read_back(path: Path) -> bool:
    is_result = {"best", "last"} & set(path.parts) or path.name in ("log.jsonl", "report.json")
    return not is_result and not path.name.endswith("lock") and path.stat().st_size > 0


def _kind(name: str) -> str:
    """Return the name of a file without what differs from run to run."""
    if "checkpoints" in name:
        return "newest checkpoint"
    first, dash, _ = Path(name).name.partition("-")
    return f"{first}-*" if dash and not name.endswith(".json") else Path(name).name


def _flip_bit(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    bit = generator.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _outcome(job: Job, folder: Path, expected: dict[str, bytes]) -> str:
    """Resume a command after a flip and return what happened; raise an error if it is not right."""
    (folder / "log.txt").write_text("")
    status = job.finish(folder)
    log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    if status == 0:
        _check(job, folder, expected)
        return "said so, same result" if "cannot be" in log or "is damaged" in log else "no effect, same result"
    if status != 2 or "Traceback" in log:
        raise CharEmbedError(f"{folder}: exit status {status} after a flip; see log.txt there")
    return "clear error"


if __name__ == "__main__":
    run_script({"train": train, "embed": embed, "tag": tag, "flip": flip})
