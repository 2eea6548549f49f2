"""Run a program for a user: log to stderr, and turn errors into one line and an exit status."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli, set_parsing_settings

from charembed.cli.parser import Parser
from charembed.errors import CharEmbedError, MissingExtraError

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run a program.

    Args:
        name: name of the program, for error messages.
        program: function that does the work and returns the exit status; None means 0.

    Returns:
        The exit status: the program's own, 2 after bad input, 141 after a broken pipe, 130 after Ctrl-C.
    """
    # A terminal that cannot show a character shows a question mark.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Results go to stdout and can be piped; everything else goes to stderr.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return program() or 0
    except BrokenPipeError:  # the reader of our output has ended, as `head` does
        # Python flushes stdout at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (CharEmbedError, MissingExtraError, OSError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


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
