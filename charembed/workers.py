"""Receives pieces of work; hands on their results, several computed at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


class WorkerPool:
    """Threads, each with one thread of its own inside PyTorch's operators. Two by default: one a direction.

    Two threads inside one operator stall as soon as anything else runs on the machine; one thread a direction does not,
    and keeps two cores just as busy.
    """

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(
            self._threads, "charembed", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._is_new = True

    def __reduce__(self) -> tuple[type[WorkerPool], tuple[int]]:
        """Copies and pickles are pools with threads of their own."""
        return WorkerPool, (self._threads,)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> dict[Item, Result]:
        """Do the work for each item, begun in their order, and wait for all; an error in any is raised after that."""
        if self._process != os.getpid():  # a fork copies the pool, not its threads
            self._start()
        futures = {item: self._executor.submit(work, item) for item in items}
        try:
            return {item: future.result() for item, future in futures.items()}
        finally:
            for future in futures.values():
                if not future.cancel():
                    future.exception()  # waits: no thread may go on with the model behind the caller's back
            if self._is_new:  # what a thread sets becomes the default of threads still to come: set it back
                torch.set_num_threads(torch.get_num_threads())
                self._is_new = False
