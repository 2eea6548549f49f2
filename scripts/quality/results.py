"""Read and write results files of the comparison, and print them as tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tabulate import tabulate

from charembed import CharEmbedError
from charembed.tagging.seed_scores import Spread
from charembed.util.files import atomic_write

TaggerName = Literal["probe", "flair", "linear", "probe-0.1"]
"""Taggers of the comparison; "probe-0.1" is the probe of earlier versions, whose scores are in the results file."""


@dataclass(frozen=True)
class Result:
    """The score of one tagger: a line of a results file."""

    embedder: str
    """Name of the embedder."""
    task: str
    """Name of the task."""
    tagger: TaggerName
    """Name of the tagger."""
    seed: int
    """Seed of the tagger; 0 for one that has none."""
    metric: str
    """Name of the metric."""
    score: float
    """Score on the test sentences, in per cent."""
    dev_score: float | None
    """Score of the chosen epoch on the dev sentences; None where the tagger does not report it."""
    minutes: float
    """Time to train and score the tagger."""
    settings: dict[str, Any]
    """Settings of the embedder."""
    task_settings: dict[str, Any]
    """Settings of the task."""
    tagger_settings: dict[str, Any]
    """Settings of the tagger."""
    weights: str
    """Digest of the embedder's weights."""
    sentences: str
    """Digest of the task's sentences."""
    noisy_scores: dict[str, float] | None = None
    """Scores on the test sentences with noise, by its rate; None for a task without noise."""


def drop_incomplete_line(path: str) -> None:
    """Remove a last line that was not written completely, and end a complete one that lacks its line break.

    The next result then gets a line of its own. A missing file is left alone.
    """
    file = Path(path)
    content = file.read_bytes() if file.exists() else b""
    if not content or content.endswith(b"\n"):
        return
    # A last line that is valid JSON lacks only its line break.
    complete, _, last = content.rpartition(b"\n")
    try:
        json.loads(last)
    except ValueError:
        print(f"{path}: removed its last line, which was not written completely", file=sys.stderr)
        atomic_write(file, complete + b"\n" if complete else b"")
    else:
        atomic_write(file, content + b"\n")


def add_result(path: str, result: Result) -> None:
    """Append a line to a results file."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read_results(path: str) -> list[Result]:
    """Read a results file; a missing file has no results.

    Raises:
        CharEmbedError: a line is not a result of this version.
    """
    if not Path(path).exists():
        return []
    results = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            results.append(Result(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise CharEmbedError(
                f"{path}, line {number} is not a result, or was written by another version ({error}): delete the line"
            ) from error
    return results


@dataclass(frozen=True)
class Setting:
    """A setting of a recorded result, and its value today."""

    owner: str
    """Name of the embedder or task."""
    key: str
    """Name of the setting."""
    recorded: Any
    """Value in the results file."""
    current: Any
    """Value now."""


def check_unchanged(path: str, settings: Iterable[Setting]) -> None:
    """Check that a results file was made with today's settings: otherwise its table would mix scores of both.

    Args:
        path: the results file.
        settings: settings of its results; those with a recorded and a current value that differ are changed.

    Raises:
        CharEmbedError: a setting has changed; the message names its owner and all settings of it that have.
    """
    changed = [setting for setting in settings if setting.recorded != setting.current]
    if changed:
        owner = changed[0].owner
        keys = sorted({setting.key for setting in changed if setting.owner == owner})
        raise CharEmbedError(
            f"{path} contains results of {owner} made with other {', '.join(keys)}: rename it, delete the lines of"
            f" {owner}, or choose another --output"
        )


def summary(scores: Sequence[float]) -> str:
    """Return the mean of the scores of some seeds, and their standard deviation if there are several."""
    return str(Spread.of(scores)) if scores else ""


def print_table(results: list[Result], rows: list[str], columns: dict[str, str], tagger: TaggerName) -> None:
    """Print the scores of one tagger as a Markdown table, with a column for each rate of noise on the test sentences.

    Args:
        results: results of all taggers.
        rows: names of embedders.
        columns: metric of each task.
        tagger: name of the tagger.
    """
    results = [result for result in results if result.tagger == tagger and result.embedder in rows]
    headers: list[str] = [tagger]
    cells = [[row] for row in rows]
    for task, metric in columns.items():
        of_task = [result for result in results if result.task == task]
        rates = sorted({rate for result in of_task for rate in result.noisy_scores or {}}, key=float)
        headers += [f"{task}, {metric}", *(f"{task}, noise {rate}" for rate in rates)]
        for row, line in zip(rows, cells, strict=True):
            of_row = [result for result in of_task if result.embedder == row]
            line.append(summary([result.score for result in of_row]))
            noisy = [result.noisy_scores for result in of_row if result.noisy_scores]
            line += [summary([scores[rate] for scores in noisy if rate in scores]) for rate in rates]
    print("\n" + tabulate(cells, headers, tablefmt="github", disable_numparse=True))
