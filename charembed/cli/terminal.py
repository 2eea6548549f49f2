"""Show on a terminal only what is text: control characters are written as escapes."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO, cast

from charembed.util.controls import escape_controls

_PROGRESS_BAR = re.compile(r"\r(?P<bar>[^\n]*)")
_MOVE_BETWEEN_BARS = re.compile(r"\n*|(?:\x1b\[A)*")


class EscapingStream:
    """A text stream that escapes the control characters of what is written to it."""

    def __init__(self, stream: TextIO, *, progress_bars: bool = False) -> None:
        """
        Args:
            stream: the stream to write to.
            progress_bars: whether the cursor movements of tqdm pass. It writes each state of a bar, and each movement
                from one bar to another, by a call of its own.
        """
        self._stream = stream
        self._progress_bars = progress_bars

    def write(self, text: str) -> int:
        """Write text and return its length."""
        if self._progress_bars and _MOVE_BETWEEN_BARS.fullmatch(text):
            self._stream.write(text)
        elif self._progress_bars and (match := _PROGRESS_BAR.fullmatch(text)):
            self._stream.write("\r" + escape_controls(match["bar"]))
        else:
            self._stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write lines, which have line ends."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class OneLineFormatter(logging.Formatter):
    """Formats log records so that a message of charembed stays one line, whatever it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging)
        """Return the line of a record, without the traceback that may follow."""
        line = super().formatMessage(record)
        return escape_controls(line, line_ends=True) if record.name.startswith("charembed") else line


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Escape the control characters of everything that this process prints in the context."""
    outputs = sys.stdout, sys.stderr
    if sys.stdout is not None:  # as it is if it was closed; then nothing is printed
        sys.stdout = cast(TextIO, EscapingStream(sys.stdout))
    sys.stderr = cast(TextIO, EscapingStream(sys.stderr, progress_bars=True))
    try:
        yield
    except Exception:
        sys.excepthook = _print_traceback  # Python prints the traceback of a bug after the context has ended
        raise
    finally:
        sys.stdout, sys.stderr = outputs


def _print_traceback(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    sys.stderr.write(escape_controls("".join(traceback.format_exception(kind, error, frames))))
