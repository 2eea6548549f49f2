"""Run a program for a user: log to stderr, and turn errors into one line and an exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli, set_parsing_settings

from charembed.cli.parser import Parser
from charembed.cli.terminal import OneLineFormatter, escaped_output
from charembed.errors import CharEmbedError, MissingExtraError
from charembed.util.controls import escape_controls
from charembed.util.signals import TERMINATING_SIGNALS

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141
_OUT_OF_MEMORY = re.compile(r"(?:can't|unable to) allocate|out of memory", re.IGNORECASE)


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP of a terminal that was closed, has arrived. The program ends as after Ctrl-C: temporary files
    are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        """Number of the signal."""


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run a program.

    Args:
        name: name of the program, for error messages.
        program: function that does the work and returns the exit status; None means 0.

    Returns:
        The exit status: the program's own, 2 after bad input or when the memory is too small, 141 after a broken pipe,
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    # A terminal that cannot show a character shows a question mark.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    with escaped_output():
        # Results go to stdout and can be piped; everything else goes to stderr.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLineFormatter("%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        return _exit_status(name, program)


def _exit_status(name: str, program: Callable[[], int | None]) -> int:
    """Run the program, and turn errors and signals into messages and exit statuses."""
    try:
        with _signals_raise():
            return _run_and_flush(program)
    except BrokenPipeError:  # the reader of our output has ended, as `head` does
        _discard_unwritten_output()
        return EXIT_BROKEN_PIPE
    except (CharEmbedError, MissingExtraError, OSError) as error:
        print(f"{name}: error: {escape_controls(str(error), line_ends=True)}", file=sys.stderr)
        _discard_unwritten_output()
        return EXIT_BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no exception of its own for it on a CPU.
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        print(f"{name}: error: there is not enough memory: use a smaller model or a smaller batch", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Terminated as error:
        return 128 + error.number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run_and_flush(program: Callable[[], int | None]) -> int:
    """Run the program and flush what it has printed: at exit, Python could not say that a full disk has lost it.

    Raises:
        OSError: stdout cannot be written.
    """
    try:
        status = program() or 0
    except SystemExit:  # after --help and --version
        _flush()
        raise
    _flush()
    return status


def _flush() -> None:
    """Flush stdout, which Python sets to None if it is closed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_unwritten_output() -> None:
    """Discard what stdout cannot write: Python flushes it again at exit, which must not fail a second time."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise `Terminated` in the main thread when SIGTERM or SIGHUP arrives, unless the program has another use for it.

    `nohup`, for example, ignores SIGHUP.
    """

    def handle(number: int, _: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)  # a second one must not interrupt the clean-up after the first
        raise Terminated(number)

    # Python delivers signals to the main thread alone, and only there can a handler be set.
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [one for one in TERMINATING_SIGNALS if is_main and signal.getsignal(one) == signal.SIG_DFL]
    for one in numbers:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one in numbers:
            signal.signal(one, signal.SIG_DFL)


def run_script(
    components: Callable[..., Any] | dict[str, Any],
    *,
    as_positional: bool = False,
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Run the main function of a script, whose parameters become options; exit if it fails.

    Args:
        components: the main function, or several functions by the name of their command. A dataclass may stand for a
            function: its fields become options, and the instance is called.
        as_positional: whether options without default are positional arguments.
        renamed: new name of each option that had another name in an earlier version, which is accepted too.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help of fields

    def program() -> None:
        result = auto_cli(components, as_positional=as_positional, parser_class=Parser, renamed=renamed)
        if dataclasses.is_dataclass(result) and callable(result):
            result()

    if status := run_program(Path(sys.argv[0]).name, program):
        sys.exit(status)
