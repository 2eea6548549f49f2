"""Receives a command line; hands it on to the library. The command `charembed`."""

from __future__ import annotations

import io
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import NonNegativeInt, PositiveInt

from charembed.errors import CharEmbedError, MissingExtraError
from charembed.pretrained.hub import MODEL_HELP
from charembed.version import __version__

if TYPE_CHECKING:
    from charembed.text.corpus import Corpus

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141
EMBEDDER_OPTIONS = ("engine", "precision", "readout", "threads", "batch_size", "memory_mb")


def train_command(arguments: Namespace) -> int:
    """Train a language model in both directions on your own text."""
    from charembed.training.config import TrainConfig
    from charembed.training.dry_run import dry_run
    from charembed.training.report import table
    from charembed.training.run_folder import RunFolder
    from charembed.training.train import train

    only_look = arguments.pop("dry_run")
    config = TrainConfig(**vars(arguments))
    if only_look:
        print(dry_run(config))
        return 0
    result = train(config)
    if not result.is_main_process:
        return 0 if result.interrupted is None else 128 + result.interrupted
    if result.interrupted is not None:
        print(
            f"charembed: ended by {signal.Signals(result.interrupted).name} after {result.report.seconds / 60:.1f} min;"
            " run the same command again (without overwrite) to go on from there",
            file=sys.stderr,
        )
        return 128 + result.interrupted
    print(table({str(RunFolder(result.folder).best): result.report}))
    return 0


def report_command(arguments: Namespace) -> int:
    """Show how runs went, or how far they have come, side by side."""
    from pathlib import Path

    from charembed.training.report import Report, table
    from charembed.training.run_folder import RunFolder

    reports = {name: Report.load(Path(name)) for name in arguments.runs}
    for name, report in reports.items():
        if report.state == "running" and not RunFolder(Path(name)).is_in_use:
            report.state = "killed"
    print(table(reports))
    return 0


def embed_command(arguments: Namespace) -> int:
    """Write the vectors of all words of some files, each line or record a text of its own, into a folder."""
    import dataclasses

    from charembed.embedding.context import Context
    from charembed.embedding.embedder import CharEmbedder
    from charembed.output.writer import OutputConfig, write_embeddings

    config = OutputConfig(**{field.name: arguments[field.name] for field in dataclasses.fields(OutputConfig)})
    context = None
    if arguments.context_characters is not None or arguments.context_sentences is not None:
        context = Context(arguments.context_characters, arguments.context_sentences)
    options = {name: arguments[name] for name in EMBEDDER_OPTIONS}
    embedder = CharEmbedder.from_pretrained(arguments.model, arguments.device, **options)
    try:
        written = write_embeddings(embedder, _corpus(arguments), arguments.output, config, context)
    except KeyboardInterrupt:
        print("charembed: run the same command again to go on after the last finished file", file=sys.stderr)
        raise
    width = written.projected.get("dim", embedder.embedding_dim)
    print(f"{arguments.output}: {written.so_far}, {width} numbers each")
    return 0


def evaluate_command(arguments: Namespace) -> int:
    """Measure how well a model predicts some files, in bits per character."""
    import numpy as np

    from charembed.lm.scoring import score_all
    from charembed.pretrained.model_folder import Pretrained
    from charembed.text.corpus import document_texts
    from charembed.util.workers import WorkerPool

    pretrained = Pretrained.load(arguments.model, arguments.device)
    pieces = [pretrained.vocab.encode(piece) for piece in document_texts(_corpus(arguments))]
    if not pieces:
        raise CharEmbedError(f"no text in {', '.join(arguments.files)}")
    scores = score_all(pretrained.model, np.concatenate(pieces), pretrained.vocab, WorkerPool())
    for direction, score in scores.items():
        print(f"{direction:8} {score.bits_per_character:.4f} bits per character")
    some = next(iter(scores.values()))
    print(f"{some.characters:,} characters, {some.unknown_rate:.4%} unknown")
    return 0


def generate_command(arguments: Namespace) -> int:
    """Let the forward model go on with a text."""
    from charembed.lm.generation import generate
    from charembed.pretrained.model_folder import Pretrained

    pretrained = Pretrained.load(arguments.model, arguments.device)
    characters = generate(
        pretrained.model.direction("forward"),
        pretrained.vocab,
        arguments.prompt,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    print(arguments.prompt, end="")
    for character in itertools.islice(characters, arguments.characters):
        print(character, end="", flush=True)
    print()
    return 0


def neighbors_command(arguments: Namespace) -> int:
    """Show the words of some files that are used most like a word in its sentence, other than the word itself."""
    from charembed.embedding.embedder import CharEmbedder
    from charembed.embedding.neighbors import find_neighbors

    embedder = CharEmbedder.from_pretrained(arguments.model, device=arguments.device)
    texts = (text.text for text in _corpus(arguments).texts())
    found = find_neighbors(embedder, arguments.sentence, arguments.word, texts, count=arguments.count)
    for neighbor in found:
        start, end = neighbor.span
        before = neighbor.text[max(0, start - 30) : start]
        after = neighbor.text[end : end + 30]
        print(f"{neighbor.similarity:6.3f}  {neighbor.word:<16} … {before:>30}[{neighbor.word}]{after} …")
    return 0


def import_flair_command(arguments: Namespace) -> int:
    """Turn a pair of Flair's language models into a model folder; Flair is not needed, nothing in the files is run."""
    from charembed.pretrained.flair_checkpoint import read_flair

    pretrained = read_flair(arguments.forward, arguments.backward, arguments.readout)
    pretrained.save(arguments.output)
    config = pretrained.model.config
    print(
        f"{arguments.output}: {config.num_layers} layer(s) of {config.cell}, hidden size {config.hidden_size},"
        f" {config.vocab_size} characters, vectors of {pretrained.model.embedding_dim} numbers"
    )
    return 0


def export_onnx_command(arguments: Namespace) -> int:
    """Write a model as ONNX graphs that ONNX Runtime runs without charembed or PyTorch, with an example."""
    from charembed.integrations.onnx import export_onnx
    from charembed.pretrained.model_folder import Pretrained

    done = export_onnx(Pretrained.load(arguments.model), arguments.output, arguments.precision)
    print(
        f"{arguments.output}: {done.megabytes:.1f} MB, largest difference from PyTorch's vectors {done.difference:.1e},"
        f" least cosine {done.cosine:.6f}; embed.py in it is an example"
    )
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "train": train_command,
    "report": report_command,
    "embed": embed_command,
    "evaluate": evaluate_command,
    "generate": generate_command,
    "neighbors": neighbors_command,
    "import-flair": import_flair_command,
    "export-onnx": export_onnx_command,
}


def build_parser() -> ArgumentParser:
    """The parser of the whole command line."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="charembed",
        version=__version__,
        allow_abbrev=False,
        description="Contextual character embeddings: train language models on your own text, embed words with them.",
    )
    commands = parser.add_subcommands(required=True, dest="command")
    commands.add_subcommand("train", _train_parser(), help=train_command.__doc__)
    for name, parts in {
        "report": (_add_runs,),
        "embed": (_add_files, _add_embed_options, _add_model),
        "evaluate": (_add_files, _add_model),
        "generate": (_add_generate_options, _add_model),
        "neighbors": (_add_files, _add_neighbors_options, _add_model),
        "import-flair": (_add_import_options,),
        "export-onnx": (_add_export_options,),
    }.items():
        command = ArgumentParser(description=COMMANDS[name].__doc__, allow_abbrev=False)
        for add in parts:
            add(command)
        commands.add_subcommand(name, command, help=COMMANDS[name].__doc__)
    return parser


def _train_parser() -> ArgumentParser:
    from charembed.training.config import TrainConfig

    usage = "charembed train [--config FILE] --data.train TEXT --output FOLDER [option …]"
    parser = ArgumentParser(usage=usage, description=train_command.__doc__, allow_abbrev=False)
    parser.add_argument(
        "--config", action="config", help="YAML file of the options below; what follows it overrides it"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train nothing: say how large text and model are, how fast this machine is, and what the budget buys",
    )
    parser.add_class_arguments(TrainConfig)
    return parser


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("-m", "--model", required=True, type=str, help=MODEL_HELP)
    parser.add_argument("--device", default="cpu", type=str, help="where to run: cpu, cuda, …")


def _add_runs(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=str, help="output folders of charembed train")


def _add_files(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=str,
        help="text: files, folders, globs (plain, .gz, .xz, .bz2, .jsonl, .parquet) or dataset:NAME",
    )
    parser.add_argument(
        "--text_column", default="text", type=str, help="column of the text in .jsonl, .parquet, data sets"
    )
    parser.add_argument(
        "--errors", default="strict", choices=["strict", "replace"], help="what to do with invalid UTF-8"
    )


def _add_embed_options(parser: ArgumentParser) -> None:
    from charembed.embedding.embedder import CharEmbedder
    from charembed.output.writer import OutputConfig

    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=str,
        help="folder to write files into: a row a word, with its source (file), number (line or record, from 1), word,"
        " start and end (characters), vector. After an interruption the same command goes on",
    )
    parser.add_class_arguments(OutputConfig)
    parser.add_class_arguments(CharEmbedder, skip={"pretrained", "device", "cache_mb"})
    parser.add_argument(
        "--context_characters",
        type=PositiveInt,
        default=None,
        help="read so many characters around each line too, of the lines up to a blank one",
    )
    parser.add_argument(
        "--context_sentences", type=PositiveInt, default=None, help="read so many lines around each line too"
    )


def _add_generate_options(parser: ArgumentParser) -> None:
    parser.add_argument("--prompt", default="", type=str, help="text to go on from")
    parser.add_argument("--characters", default=500, type=NonNegativeInt, help="how many to write")
    parser.add_argument("--temperature", default=0.7, type=float, help="lower is more predictable")
    parser.add_argument("--seed", default=None, type=int, help="for the same text every time")


def _add_neighbors_options(parser: ArgumentParser) -> None:
    parser.add_argument("--sentence", required=True, type=str, help="the context of the word")
    parser.add_argument("--word", required=True, type=str, help="a word of the sentence")
    parser.add_argument("--count", default=10, type=PositiveInt, help="how many words to show")


def _add_import_options(parser: ArgumentParser) -> None:
    parser.add_argument("forward", type=str, help="file of the language model that reads from left to right")
    parser.add_argument("backward", type=str, help="file of the one that reads from right to left")
    parser.add_argument("output", type=str, help="model folder to write")
    parser.add_argument(
        "--readout",
        default="separator",
        choices=["separator", "word"],
        help="separator: vectors of FlairEmbeddings(with_whitespace=True), Flair's default; word: of False",
    )


def _add_export_options(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help=MODEL_HELP)
    parser.add_argument("output", type=str, help="folder to write")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "int8"],
        help="of the products with recurrent weights; int8 is a quarter of the size, several times faster, less exact",
    )


def _corpus(arguments: Namespace) -> Corpus:
    from charembed.text.corpus import Corpus

    return Corpus(arguments.files, text_column=arguments.text_column, errors=arguments.errors)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 2 after bad input, 128 and the number of the signal after one: 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:  # from here on: an early Ctrl-C meets the import of PyTorch
        parser = build_parser()
        arguments = parser.instantiate(_parse(parser, argv))
        command: Any = arguments.command
        chosen = arguments[command]
        chosen.pop("config", None)
        return COMMANDS[command](chosen)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (CharEmbedError, MissingExtraError, OSError) as error:
        print(f"charembed: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parse(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    try:
        return parser.parse_args(argv)
    except UnicodeDecodeError as error:
        raise CharEmbedError(f"a configuration file is not UTF-8 text: {error}") from error
