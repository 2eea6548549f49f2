"""Measure the peak memory of commands (Linux)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Usage:
    """What a process used."""

    peak_bytes: int
    """Largest resident set size."""
    seconds: float
    """Wall-clock time."""
    finished: bool
    """Whether the process ended before it was killed."""


def measure_process(command: list[str], max_seconds: float = float("inf")) -> Usage:
    """Run a command without output and measure it.

    Args:
        command: the command and its arguments.
        max_seconds: time after which the process is killed.

    Raises:
        RuntimeError: the command failed.
    """
    # os.wait4 returns the memory of this one process; resource.getrusage would return the largest of all so far.
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    while not ended and time.monotonic() - started < max_seconds:
        time.sleep(POLL_SECONDS)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not ended:
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
    elif status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return Usage(1024 * usage.ru_maxrss, time.monotonic() - started, bool(ended))


def memory_table(commands: Mapping[Path, list[str]], max_seconds: float) -> str:
    """Run a command for each text, and return a table of their peak memory.

    Args:
        commands: the command and its arguments for each text; the first text is small.
        max_seconds: time after which a process is killed.

    Raises:
        RuntimeError: a command failed.
    """
    base = 0
    rows = []
    for path, command in commands.items():
        usage = measure_process(command, max_seconds)
        base = base or usage.peak_bytes  # the first text is a few words: the memory of the libraries and the model
        sizes = (f"{size / 1e6:,.0f}" for size in (path.stat().st_size, usage.peak_bytes, usage.peak_bytes - base))
        rows.append([path.stem, *sizes, f"{usage.seconds:.0f}{'' if usage.finished else ' (killed)'}"])
    headers = ["text", "size, MB", "peak memory, MB", "above a few words, MB", "seconds"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def write_repeated(path: Path, text: bytes, size: float) -> None:
    """Write a text as often as it takes to reach a size in bytes."""
    with path.open("wb") as file:
        for _ in range(int(size / len(text)) + 1):
            file.write(text)
