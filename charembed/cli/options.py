"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from charembed.cli.parser import Parser
from charembed.text.lines import DEFAULT_MAX_TEXT_MB

if TYPE_CHECKING:
    from charembed.text.corpus import Corpus


def add_config(parser: Parser) -> None:
    """Add `--config`, whose value is not an option of what is run: remove it from the parsed arguments."""
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of the options below; options after it on the command line override it",
    )


def add_model(parser: Parser, kind: str = "model") -> None:
    """Add `--model`.

    Args:
        parser: parser of the command.
        kind: what can be named.
    """
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        type=str,
        help=f"Name of a bundled {kind}, such as en; path of a {kind} folder; or hf://owner/name",
    )


def add_device(parser: Parser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", default="cpu", type=str, help="Device to run on: cpu, cuda, cuda:1, …")


def add_parts(parser: Parser) -> None:
    """Add `--parts`."""
    parser.add_argument(
        "--parts",
        default=None,
        type=str,
        help="Parts of which a vector consists, separated by commas: forward and backward for the states of the"
        " language models, words for the static vector of the word. By default all that the model has. Parts that are"
        " left out are not computed",
    )


def chosen_parts(arguments: Namespace) -> list[str] | None:
    """Return the value of `--parts`; None if it was not given."""
    return None if arguments.parts is None else arguments.parts.split(",")


def add_files(parser: Parser) -> None:
    """Add the arguments that name texts and say how to read them; `read_corpus` takes them."""
    parser.add_argument(
        "files",
        nargs="+",
        type=str,
        help="Texts: files, folders or globs (plain text, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, also"
        " compressed), dataset:NAME for a Hugging Face data set, or - for the standard input",
    )
    parser.add_argument(
        "--text_column", default="text", type=str, help="Column with the text in JSON, CSV, Parquet and data sets"
    )
    parser.add_argument(
        "--errors",
        default="strict",
        choices=["strict", "replace"],
        help="Bytes that are not UTF-8: strict stops with an error, replace reads each as U+FFFD",
    )
    parser.add_argument(
        "--max_text_mb",
        default=DEFAULT_MAX_TEXT_MB,
        type=PositiveInt,
        help="Largest size of a line or record in megabytes; a longer one is an error",
    )


def add_cluster(parser: Parser, written: str) -> None:
    """Add `--cluster`.

    Args:
        parser: parser of the command.
        written: what one file that the cluster writes has rows of.
    """
    parser.add_argument(
        "--cluster",
        default=None,
        type=str,
        metavar="auto|ADDRESS",
        help="Work on all cores of a Ray cluster, one thread on each, or on all GPUs with --device cuda: its address,"
        " or auto for the cluster that this machine belongs to, or for this machine alone if it belongs to none. All"
        " machines must be able to read the files and write the output, which is a folder on shared storage or an"
        f" address such as s3://bucket/folder with Parquet files of {written}. Needs charembed[ray]",
    )


def read_corpus(arguments: Namespace) -> Corpus:
    """Return the corpus of the arguments of `add_files`."""
    from charembed.text.corpus import Corpus, check_text_column

    options = {name: arguments[name] for name in ("text_column", "errors", "max_text_mb")}
    corpus = Corpus(arguments.files, **options)
    check_text_column(corpus)
    return corpus
