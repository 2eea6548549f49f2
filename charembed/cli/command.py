"""One command of the command line: its options and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jsonargparse import Namespace

from charembed.cli.parser import Parser


@dataclass(frozen=True)
class Command:
    """A subcommand of `charembed`."""

    run: Callable[[Namespace], int]
    """Function that gets the parsed options and returns the exit status."""
    add_options: Callable[[Parser], None]
    """Function that adds the options to a parser."""
    summary: str
    """What the command does, in one sentence."""
    examples: tuple[str, ...]
    """Command lines for the end of the help."""
    usage: str | None = None
    """Usage line, for a command with too many options to list."""
    hint: str = ""
    """Advice for a command line with too many or too few arguments."""

    def parser(self, *, with_options: bool) -> Parser:
        """Build the parser of the command.

        Args:
            with_options: whether to add the options, for which some commands import PyTorch.
        """
        parser = Parser(description=self.summary, usage=self.usage, examples=self.examples, hint=self.hint)
        if with_options:
            self.add_options(parser)
        return parser
