"""Measure the peak memory of a command (Linux)."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

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
