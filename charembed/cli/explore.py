"""The command that shows a model on a local page: explore."""

from __future__ import annotations

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt

from charembed.cli.command import Command
from charembed.cli.options import add_model
from charembed.cli.parser import Parser


def run_explore(arguments: Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from charembed.explore.server import explore

    explore(arguments.model, arguments.corpus, arguments.tagger, arguments.index, arguments.port)
    return 0


def _add_options(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument(
        "--corpus",
        nargs="+",
        type=str,
        default=[],
        help="Texts for neighbors and the map, named as for charembed embed",
    )
    parser.add_argument(
        "--tagger",
        type=str,
        default=None,
        help="Tagger whose tags are shown: a bundled one (en-ner) or a folder",
    )
    parser.add_argument(
        "--index",
        type=str,
        default=None,
        help="Folder that keeps the index of the corpus for the next time; by default it is made anew each time",
    )
    parser.add_argument(
        "--port", type=NonNegativeInt, default=8765, help="Port of the page on this machine; 0 for any that is free"
    )


EXPLORE = Command(
    run_explore,
    _add_options,
    "Show what a model makes of a text on a local page: tags, the nearest words of a corpus, a map of occurrences, and"
    " the surprise of each character.",
    examples=("charembed explore --model en --corpus my_text.txt --index runs/index --tagger en-ner",),
)
