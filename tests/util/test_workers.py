"""Work done by several threads."""

from __future__ import annotations

import pickle
import threading
import time

import pytest
import torch

from charembed.util.workers import WorkerPool

KINDS = [(1, False), (2, False), (1, True), (2, True), (4, True)]


@pytest.mark.parametrize(("threads", "caller_works"), KINDS)
def test_results_are_those_of_their_items(threads: int, caller_works: bool) -> None:
    pool = WorkerPool(threads, caller_works=caller_works)
    assert pool.map(lambda item: item * item, range(20)) == {k: k * k for k in range(20)}
    assert pool.map(lambda item: item, []) == {}
    assert pickle.loads(pickle.dumps(pool)).map(str, [1, 2]) == {1: "1", 2: "2"}


@pytest.mark.parametrize(("threads", "caller_works"), KINDS)
def test_no_more_threads_than_asked_for_work_at_once(threads: int, caller_works: bool) -> None:
    names: set[str] = set()

    def work(_: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        return torch.get_num_threads()

    seen = WorkerPool(threads, caller_works=caller_works).map(work, range(12))
    assert len(names) == threads
    assert (threading.current_thread().name in names) == caller_works
    if not caller_works:
        assert set(seen.values()) == {1}


@pytest.mark.parametrize(("threads", "caller_works"), KINDS)
def test_an_error_ends_the_work(threads: int, caller_works: bool) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise LookupError("item 3")
        time.sleep(0.01)

    with pytest.raises(LookupError, match="item 3"):
        WorkerPool(threads, caller_works=caller_works).map(work, range(200))
    assert len(begun) < 100
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count, "a thread went on"
