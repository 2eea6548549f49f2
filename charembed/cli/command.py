"""One command of the command line: its options and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    commands: Mapping[str, Command] | None = None
    """The commands of a group, by name."""

    @classmethod
    def group(cls, summary: str, commands: Mapping[str, Command], examples: tuple[str, ...]) -> Command:
        """Return a command that consists of commands of its own.

        Args:
            summary: what the commands do, in one sentence.
            commands: the commands by name.
            examples: command lines for the end of the help.
        """

        def run(arguments: Namespace) -> int:
            name = arguments.subcommand
            return commands[name].run(arguments[name])

        def no_options(_: Parser) -> None:
            """Add nothing: the commands have the options."""

        return cls(run, no_options, summary, examples, commands=commands)

    def parser(self, *, with_options: bool) -> Parser:
        """Build the parser of the command.

        Args:
            with_options: whether to add the options, for which some commands import PyTorch.
        """
        parser = Parser(description=self.summary, usage=self.usage, examples=self.examples, hint=self.hint)
        if with_options:
            self.add_options(parser)
        return parser


def add_commands(parser: Parser, commands: Mapping[str, Command], argv: Sequence[str] | None, dest: str) -> None:
    """Add commands to a parser.

    Args:
        parser: the parser of the program or of a group of commands.
        commands: the commands by name.
        argv: the command line from the name of the command on, if only the options of that command are needed; None
            for all options.
        dest: key of the parsed command line that holds the name of the command.
    """
    added = parser.add_subcommands(required=True, dest=dest)
    for name, command in commands.items():
        subparser = command.parser(with_options=argv is None or name in argv[:1])
        added.add_subcommand(name, subparser, help=command.summary)
        subparser.prog = (
            f"{parser.prog} {name}"  # instead of "charembed [options] name": there are no options before it
        )
        if command.commands is not None:  # only now: jsonargparse wants the levels in order
            add_commands(subparser, command.commands, None if argv is None else argv[1:], dest="subcommand")
