"""Tests of the thread pool."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time

import pytest
import torch
from helpers import unix_only

from charembed.util.workers import WorkerPool, _starting, check_cancelled

POOLS = [(1, False), (2, False), (1, True), (2, True), (4, True)]


@pytest.mark.parametrize(("threads", "caller_works"), POOLS)
def test_results_belong_to_their_items(threads: int, caller_works: bool) -> None:
    pool = WorkerPool(threads, caller_works=caller_works)
    assert pool.map(lambda item: item * item, range(20)) == {k: k * k for k in range(20)}
    assert pool.map(lambda item: item, []) == {}
    assert pickle.loads(pickle.dumps(pool)).map(str, [1, 2]) == {1: "1", 2: "2"}


@pytest.mark.parametrize(("threads", "caller_works"), POOLS)
def test_works_after_its_threads_have_ended(threads: int, caller_works: bool) -> None:
    """Python ends the threads of pools before it runs the functions registered with `atexit`."""
    pool = WorkerPool(threads, caller_works=caller_works)
    pool._executor.shutdown()
    before = torch.get_num_threads()
    counts = pool.map(lambda _: torch.get_num_threads(), range(3))
    assert caller_works or set(counts.values()) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("threads", "caller_works"), POOLS)
def test_as_many_threads_work_as_requested(threads: int, caller_works: bool) -> None:
    names: set[str] = set()

    def work(_: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        return torch.get_num_threads()

    thread_counts = WorkerPool(threads, caller_works=caller_works).map(work, range(12))
    assert len(names) == threads
    assert (threading.current_thread().name in names) == caller_works
    if not caller_works:
        assert set(thread_counts.values()) == {1}


def test_threads_outside_the_pool_keep_their_numbers() -> None:
    """What one thread sets is PyTorch's default for all threads that have not yet asked for theirs."""
    counts: list[int] = []

    def count_in_new_thread() -> None:
        thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        thread.start()
        thread.join()

    def use_pool() -> None:
        torch.set_num_threads(3)
        pool, together = WorkerPool(2), threading.Barrier(2, timeout=60)
        pool.map(str, [1])  # one thread of the pool starts, and the other in the next call
        counts.append(torch.get_num_threads())
        pool.map(lambda _: together.wait(), [1, 2])
        count_in_new_thread()

    before = torch.get_num_threads()
    caller = threading.Thread(target=use_pool)
    caller.start()
    caller.join()
    torch.set_num_threads(before)
    assert counts == [3, 3], "the caller's number, and that of a new thread"


def test_callers_keep_their_number_though_they_never_asked_for_it() -> None:
    counts: list[int] = []

    def use_pool() -> None:
        WorkerPool(2).map(str, [1, 2])
        counts.append(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for _ in range(50):
            caller = threading.Thread(target=use_pool)
            caller.start()
            caller.join()
    finally:
        torch.set_num_threads(before)
    assert counts == [3] * 50


@unix_only
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_process_forked_while_a_pool_starts() -> None:
    """The fork waits until the thread that starts has released the lock, which nobody would release in the child."""
    holds = threading.Event()

    def start_slowly() -> None:
        with _starting:
            holds.set()
            time.sleep(0.5)

    thread = threading.Thread(target=start_slowly)
    thread.start()
    holds.wait()
    child = multiprocessing.get_context("fork").Process(target=WorkerPool(2).map, args=(str, [1, 2]))
    child.start()
    child.join(timeout=20)
    child.kill()
    thread.join()
    child.join()
    assert child.exitcode == 0


def test_a_thread_that_computes_nothing_at_first_uses_one_thread_later() -> None:
    """PyTorch gives the caller's number to threads that have not yet asked for theirs."""
    pool, before = WorkerPool(2), torch.get_num_threads()
    together = threading.Barrier(2, timeout=60)  # both threads work in both calls

    def count_threads(_: int) -> int:
        together.wait()
        return torch.get_num_threads()

    try:
        torch.set_num_threads(2)
        pool.map(lambda _: together.wait(), [1, 2])
        assert pool.map(count_threads, [1, 2]) == {1: 1, 2: 1}
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "caller_works"), POOLS)
def test_an_error_stops_all_threads(threads: int, caller_works: bool) -> None:
    started = []

    def work(item: int) -> None:
        started.append(item)
        if item == 3:
            raise LookupError("item 3")
        time.sleep(0.01)

    with pytest.raises(LookupError, match="item 3"):
        WorkerPool(threads, caller_works=caller_works).map(work, range(200))
    assert len(started) < 100
    count = len(started)
    time.sleep(0.05)
    assert len(started) == count, "a thread is still working"


@pytest.mark.parametrize(("threads", "caller_works"), [(2, False), (2, True), (4, True)])
def test_long_work_ends_soon_after_an_error(threads: int, caller_works: bool) -> None:
    """The error is the first one, whichever thread it arises in."""

    def work(item: int) -> None:
        if item == 1:
            time.sleep(0.02)
            raise LookupError("item 1")
        for _ in range(1000):
            check_cancelled()
            time.sleep(0.01)

    began = time.monotonic()
    with pytest.raises(LookupError, match="item 1"):
        WorkerPool(threads, caller_works=caller_works).map(work, range(4))
    assert time.monotonic() - began < 5
    check_cancelled()  # outside a pool, nothing is cancelled


def test_long_work_ends_soon_after_ctrl_c() -> None:
    def work(_: int) -> None:
        for _ in range(1000):
            check_cancelled()
            time.sleep(0.01)

    timer = threading.Timer(0.05, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        WorkerPool(2).map(work, range(4))
    assert time.monotonic() - began < 5
