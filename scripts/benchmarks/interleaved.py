"""Measure several kinds of work in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch


def interleaved(kinds: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each kind of work takes in each round.

    The order alternates from round to round. One more round before them warms up and is not counted.

    Args:
        kinds: functions to measure, by name.
        rounds: number of rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name in kinds if number % 2 else reversed(kinds):
            started = time.perf_counter()
            kinds[name]()
            # A GPU works on after the call returns.
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def print_load() -> None:
    """Print how busy the machine was during a measurement."""
    print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
