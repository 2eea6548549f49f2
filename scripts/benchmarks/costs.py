"""Estimate what a large corpus costs: core-hours, GPU-hours, bytes written and money, by the formulas of docs/scale.md.

    python -m scripts.benchmarks.costs --characters '[1e9, 1e12]' --rate 2000 --dim 1408 --hour 0.05

Prices and the result are in the same currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from charembed.cli.runner import run_script
from charembed.errors import CharEmbedError
from charembed.output.shards import ROW_BYTES
from charembed.output.writer import CHARACTERS_PER_WORD

SHARD_BYTES = 64e6
"""Size of a file, as `--shard-mb` sets it by default."""
REQUESTS_PER_FILE = 4
"""Requests to an object store per file: one to see whether it exists, one to upload, one to move and one to delete."""


@dataclass(frozen=True)
class Cost:
    """What one job costs."""

    hours: float
    """Hours of one core, or of one GPU."""
    written_bytes: float
    """Bytes of output."""
    files: float
    """Number of files of output."""
    money: float
    """Computation, one month of storage and requests, in the unit of the prices."""


def estimate(
    characters: float,
    rate: float,
    *,
    dim: int = 0,
    bytes_per_number: int = 4,
    passes: float = 1,
    efficiency: float = 1,
    hour: float = 0,
    gb_month: float = 0,
    thousand_requests: float = 0,
) -> Cost:
    """Return the cost of a job.

    hours = passes · characters / (rate · efficiency) / 3600
    bytes = characters / 5.5 · (dim · bytes_per_number + 100); none if dim is 0
    money = hours · hour + bytes / 10⁹ · gb_month + requests / 1000 · thousand_requests

    Args:
        characters: size of the corpus.
        rate: characters per second of one core, or of one GPU.
        dim: dimensions of the vectors that are written; 0 for training and tagging, which write little.
        bytes_per_number: 4 for float32, 2 for float16.
        passes: how often the corpus is read, for training.
        efficiency: share of the rate of one that each of many workers reaches.
        hour: price of an hour of a core, or of a GPU.
        gb_month: price of storing 10⁹ bytes for a month.
        thousand_requests: price of a thousand requests to the object store.

    Raises:
        CharEmbedError: a number is out of range.
    """
    if not (characters > 0 and rate > 0 and passes > 0 and 0 < efficiency <= 1):
        raise CharEmbedError(
            "characters, rate and passes must be positive and efficiency at most 1, got"
            f" {characters:g}, {rate:g}, {passes:g} and {efficiency:g}"
        )
    hours = passes * characters / (rate * efficiency) / 3600
    written = characters / CHARACTERS_PER_WORD * (dim * bytes_per_number + ROW_BYTES) if dim else 0.0
    files = written / SHARD_BYTES
    requests = files * REQUESTS_PER_FILE
    money = hours * hour + written / 1e9 * gb_month + requests / 1000 * thousand_requests
    return Cost(hours, written, files, money)


def main(characters: list[float], rate: float, **options: Any) -> None:
    """Print the cost of a job for corpora of several sizes.

    Args:
        characters: sizes of the corpora.
        rate: characters per second of one core, or of one GPU.
        options: the other options of `estimate`.
    """
    rows = []
    for size in characters:
        cost = estimate(size, rate, **options)
        rows.append([f"{size:.0e}", f"{cost.hours:,.0f}", f"{cost.written_bytes:.2e}", f"{cost.files:,.0f}"])
        rows[-1].append(f"{cost.money:,.0f}")
    print(tabulate(rows, ["characters", "hours", "bytes", "files", "money"], disable_numparse=True, tablefmt="github"))


if __name__ == "__main__":
    run_script(main)
