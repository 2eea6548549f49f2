"""Receives pieces of work; hands on their results, several computed at the same time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


class WorkerPool:
    """Threads, each with one thread of its own inside PyTorch's operators. Two by default: one a direction.

    Two threads inside one operator stall as soon as anything else runs on the machine; one thread a direction does not,
    and keeps two cores just as busy.
    """

    def __init__(self, threads: int = 2, *, caller_works: bool = False) -> None:
        """
        Args:
            threads: how many work at the same time.
            caller_works: whether the calling thread is one of them, which saves waking another up. PyTorch's operators
                would have more than one thread there.
        """
        self._threads = threads
        self._caller_works = caller_works
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(
            max(1, self._threads - self._caller_works), "charembed", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._is_new = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are pools with threads of their own."""
        return partial(WorkerPool, self._threads, caller_works=self._caller_works), ()

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> dict[Item, Result]:
        """Do the work for each item, begun in their order, and wait for all; an error in any is raised after that, and
        what was not begun by then is not done."""
        if self._process != os.getpid():  # a fork copies the pool, not its threads
            self._start()
        results: dict[Item, Result] = {}
        waiting = deque(items)

        def do_some() -> None:
            while True:
                try:
                    item = waiting.popleft()
                except IndexError:
                    return
                try:
                    results[item] = work(item)
                except BaseException:
                    waiting.clear()
                    raise

        count = min(self._threads, len(items)) - self._caller_works
        futures = [self._executor.submit(do_some) for _ in range(count)]
        try:
            if self._caller_works:
                do_some()
            for future in futures:
                future.result()
        finally:
            waiting.clear()
            for future in futures:
                future.exception()  # waits: no thread may go on with the model behind the caller's back
            if self._is_new and futures:  # what a thread sets becomes the default of threads to come: set it back
                torch.set_num_threads(torch.get_num_threads())
                self._is_new = False
        return {item: results[item] for item in items}
