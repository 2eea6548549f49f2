"""The scores that `evaluate_quality.py` finds, as lines of a file and as a table."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from charembed.util.files import atomic_write

TaggerName = Literal["probe", "flair"]


@dataclass(frozen=True)
class Result:
    """One tagger's score: a line of the file of results."""

    embedder: str
    task: str
    tagger: TaggerName
    seed: int
    metric: str
    score: float
    """On the test sentences, in per cent."""
    dev_score: float | None
    """Of the epoch that it chose, on the sentences that it chose it with; None where the tagger does not tell."""
    minutes: float
    """Of training and scoring the tagger."""
    settings: dict[str, Any]
    """Of the embedder."""
    task_settings: dict[str, Any]
    """Of the task."""
    tagger_settings: dict[str, Any]
    """Of the tagger."""
    weights: str
    """Digest of the embedder's."""
    sentences: str
    """Digest of the task's."""


def mend(path: str) -> None:
    """Take a last line away that was not written to its end, and end one that only lacks that, so that the next result
    gets a line of its own."""
    file = Path(path)
    content = file.read_bytes() if file.exists() else b""
    if not content or content.endswith(b"\n"):
        return
    whole, _, last = content.rpartition(b"\n")
    try:
        json.loads(last)
    except ValueError:
        print(f"{path}: its last line was not written to its end, and goes", file=sys.stderr)
        atomic_write(file, whole + b"\n" if whole else b"")
    else:
        atomic_write(file, content + b"\n")


def add_result(path: str, result: Result) -> None:
    """Add a line to a file of results."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read_results(path: str) -> list[Result]:
    """What a file of results holds; nothing if there is none yet."""
    if not Path(path).exists():
        return []
    results = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            results.append(Result(**json.loads(line)))
        except (TypeError, ValueError) as error:
            sys.exit(f"{path}, line {number} is no result, or one of another version ({error}): delete it")
    return results


def summary(results: list[Result]) -> str:
    """Mean over seeds, and beside it the standard deviation between them."""
    if not results:
        return ""
    found = [one.score for one in results]
    spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{spread}"


def print_table(results: list[Result], rows: list[str], columns: dict[str, str], tagger: TaggerName) -> None:
    """One tagger's scores.

    Args:
        results: of all taggers.
        rows: names of embedders.
        columns: metric of each task.
        tagger: which one.
    """
    print(f"\n| {tagger} | {' | '.join(f'{name}, {metric}' for name, metric in columns.items())} |")
    print("| --- " * (len(columns) + 1) + "|")
    for row in rows:
        cells = [
            summary([one for one in results if (one.embedder, one.task, one.tagger) == (row, column, tagger)])
            for column in columns
        ]
        print(f"| {row} | {' | '.join(cells)} |")
