"""Note Ctrl-C and SIGTERM, so that a run can stop between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Context in which the first Ctrl-C or SIGTERM is noted and the second raises KeyboardInterrupt.

    Python delivers signals to the main thread alone; in any other thread the context notes nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """Number of the signal that arrived; None before that."""
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
