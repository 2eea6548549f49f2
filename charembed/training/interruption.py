"""Note Ctrl-C and signals that end a program, so that a run can stop between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from charembed.util.signals import TERMINATING_SIGNALS

SIGNALS = (signal.SIGINT, *TERMINATING_SIGNALS)


class Interruption:
    """Context in which the first Ctrl-C, SIGTERM or SIGHUP is noted and the second raises KeyboardInterrupt.

    A signal that is ignored, as SIGHUP is by `nohup`, stays ignored.

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
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous_handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
