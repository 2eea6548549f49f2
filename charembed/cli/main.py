"""The command `charembed`: parse a command line and run its command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import set_parsing_settings

from charembed.cli.command import Command, add_commands
from charembed.cli.embed import EMBED, NEIGHBORS
from charembed.cli.explore import EXPLORE
from charembed.cli.models import ADD_PROJECTION, ADD_WORDS, EVALUATE, EXPORT_ONNX, GENERATE, IMPORT_FLAIR
from charembed.cli.parser import Parser
from charembed.cli.probe import PROBE
from charembed.cli.runner import run_program
from charembed.cli.tag import TAG
from charembed.cli.train import REPORT, TRAIN
from charembed.version import __version__

COMMANDS: dict[str, Command] = {
    "train": TRAIN,
    "report": REPORT,
    "embed": EMBED,
    "tag": TAG,
    "probe": PROBE,
    "evaluate": EVALUATE,
    "generate": GENERATE,
    "neighbors": NEIGHBORS,
    "explore": EXPLORE,
    "add-words": ADD_WORDS,
    "add-projection": ADD_PROJECTION,
    "import-flair": IMPORT_FLAIR,
    "export-onnx": EXPORT_ONNX,
}


def build_parser(argv: Sequence[str] | None = None) -> Parser:
    """Build the parser of the command line.

    Args:
        argv: the command line, if only the options of its command are needed: those of others are left out, which saves
            the import of PyTorch for `charembed --help`. All options by default.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help of TrainConfig and others
    parser = Parser(
        prog="charembed",
        version=__version__,
        description="Contextual character embeddings: train character language models on your own text, embed and tag"
        " words with them.",
        examples=(
            "charembed train --data.train my_text.txt --output runs/mine --budget.minutes 60",
            "charembed embed --model runs/mine/best my_text.txt --output vectors",
        ),
    )
    add_commands(parser, COMMANDS, argv, dest="command")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the command line without the program's name; `sys.argv[1:]` by default.

    Returns:
        The exit status: 0 on success, 2 after bad input, 128 plus the number of the signal after a signal (130 after
        Ctrl-C).
    """
    arguments = sys.argv[1:] if argv is None else argv
    return run_program("charembed", lambda: _run(arguments))


def _run(argv: Sequence[str]) -> int:
    parser = build_parser(argv)
    options = parser.instantiate(parser.parse_args(argv))
    return COMMANDS[options.command].run(options[options.command])
