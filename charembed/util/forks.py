"""Reset what threads share in a forked process, which has only the thread that forked."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Shared(Protocol):
    """Something that threads share, with a lock."""

    def reset_after_fork(self) -> None:
        """Replace the lock, which a thread that is missing here may hold, and what the lock protects."""


_shared: WeakSet[Shared] = WeakSet()


def reset_after_fork(shared: Shared) -> None:
    """Reset an object in each process that is forked from this one, as long as the object exists."""
    _shared.add(shared)


def _reset_all() -> None:
    for shared in list(_shared):
        shared.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_all)
