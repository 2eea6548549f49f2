"""Name the signals that end a program, on every system."""

from __future__ import annotations

import signal

TERMINATING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals by which others end a program: a request to end, and a terminal that is closed, which Windows has not."""
