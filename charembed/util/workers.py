"""Run work items on several threads and return their results."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import torch

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


_thread = threading.local()
"""Event, in `cancelled`, that says whether the work of this thread is to stop."""
_starting = threading.RLock()
"""Held by a thread that changes PyTorch's default number of threads for a moment."""
if hasattr(os, "register_at_fork"):  # Windows has no fork
    # A forked process has neither the thread that holds the lock nor the one that would restore the default.
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)


class WorkCancelledError(Exception):
    """The work is not needed any more, because other work of the same call of `WorkerPool.map` has failed."""


def check_cancelled() -> None:
    """Let the work of a pool stop early after an error or Ctrl-C; long work calls this now and then.

    Raises:
        WorkCancelledError: it is to stop. `WorkerPool.map` handles this error.
    """
    cancelled: threading.Event | None = getattr(_thread, "cancelled", None)
    if cancelled is not None and cancelled.is_set():
        raise WorkCancelledError


def _use_one_thread() -> None:
    """Let PyTorch's operators use one thread in a thread that has just started.

    For a moment, one is also the default of threads that ask PyTorch for their number for the first time.
    """
    with _starting:
        # A thread takes over PyTorch's default when it first asks for its number, whatever was set there before.
        default = torch.get_num_threads()
        torch.set_num_threads(1)
        # The number that a thread sets is also the default of threads that have not asked yet.
        restoring = threading.Thread(target=torch.set_num_threads, args=(default,))
        with suppress(RuntimeError):  # no more threads can be started, or the interpreter ends
            restoring.start()
            restoring.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch's operators use one thread in the caller, as in the threads of a pool."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class WorkerPool:
    """A pool of threads in each of which PyTorch's operators run single-threaded. Two by default: one per direction.

    Two threads inside one operator stall as soon as anything else runs on the machine. One thread per direction does
    not, and keeps two cores just as busy.
    """

    def __init__(self, threads: int = 2, *, caller_works: bool = False) -> None:
        """
        Args:
            threads: number of threads that work at the same time.
            caller_works: whether the calling thread is one of them, which saves waking another one. PyTorch's operators
                keep their own number of threads there.
        """
        self._threads = threads
        self._caller_works = caller_works
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(
            max(1, self._threads - self._caller_works), "charembed", initializer=_use_one_thread
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the pool as a new one with threads of its own."""
        return partial(WorkerPool, self._threads, caller_works=self._caller_works), ()

    def _submit(self, work: Callable[[], None], count: int) -> list[Future[None]]:
        """Start work on threads: on none once the interpreter ends, and on fewer if no more can be started."""
        futures: list[Future[None]] = []
        with suppress(RuntimeError):
            while len(futures) < count:
                futures.append(self._executor.submit(work))
        return futures

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> dict[Item, Result]:
        """Process each item and return the results by item, once all are done.

        Items are started in their order. After an error in any of them, or Ctrl-C, no further item is started, and the
        error is raised when the running ones have ended; those that call `check_cancelled` end soon.
        """
        # A fork copies the pool but not its threads.
        if self._process != os.getpid():
            self._start()
        results: dict[Item, Result] = {}
        waiting, cancelled = deque(items), threading.Event()
        # The caller takes over PyTorch's default before threads of the pool change it for a moment.
        with _starting:
            torch.get_num_threads()

        def process_items() -> None:
            outer, _thread.cancelled = getattr(_thread, "cancelled", None), cancelled
            try:
                while True:
                    try:
                        item = waiting.popleft()
                    except IndexError:
                        return
                    results[item] = work(item)
            except BaseException:
                waiting.clear()
                cancelled.set()
                raise
            finally:
                _thread.cancelled = outer

        # Each thread takes the next item when it is free, so that long and short items balance out.
        count = min(self._threads, len(items)) - self._caller_works
        futures = self._submit(process_items, count)
        try:
            if self._caller_works:
                process_items()
            elif count and not futures:
                with _one_thread():
                    process_items()
            for future in futures:
                future.result()
        except WorkCancelledError:
            # Raise the error that was the cause.
            errors = [future.exception() for future in futures]
            raise next(e for e in errors if e is not None and not isinstance(e, WorkCancelledError)) from None
        except BaseException:
            cancelled.set()
            raise
        finally:
            # Wait for every thread, even after an error: none may use the model after this method has returned.
            waiting.clear()
            for future in futures:
                future.exception()
            # A thread that has only just started, and found no work left, restores the default first.
            with _starting:
                pass
        return {item: results[item] for item in items}
