"""Receives work to be done once for each direction; hands on both results, computed at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from charembed.language_model import DIRECTIONS, Direction

Result = TypeVar("Result")


class DirectionPool:
    """Two threads, one a direction, each with one thread of its own inside PyTorch's operators.

    Two threads inside one operator stall as soon as anything else runs on the machine; one thread a direction does not,
    and keeps two cores just as busy.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(
            len(DIRECTIONS), "charembed", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._is_new = True

    def __reduce__(self) -> tuple[type[DirectionPool], tuple[()]]:
        """Copies and pickles are pools with threads of their own."""
        return DirectionPool, ()

    def map(
        self, work: Callable[[Direction], Result], directions: Sequence[Direction] = DIRECTIONS
    ) -> dict[Direction, Result]:
        """Do the work for each direction and wait for all; an error in any is raised after that."""
        if self._process != os.getpid():  # a fork copies the pool, not its threads
            self._start()
        futures = {direction: self._executor.submit(work, direction) for direction in directions}
        try:
            return {direction: future.result() for direction, future in futures.items()}
        finally:
            for future in futures.values():
                future.exception()  # waits: no thread may go on with the model behind the caller's back
            if self._is_new:  # what a thread sets becomes the default of threads still to come: set it back
                torch.set_num_threads(torch.get_num_threads())
                self._is_new = False
