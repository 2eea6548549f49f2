"""Times of several kinds of work that can be compared: measured by turns, on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def interleaved(kinds: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of work in each round, in one order and in the other. A round before them warms up and is
    not counted.

    Args:
        kinds: what is measured, by name.
        rounds: how many times.
    """
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name in kinds if number % 2 else reversed(kinds):
            began = time.perf_counter()
            kinds[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - began)
    return times
