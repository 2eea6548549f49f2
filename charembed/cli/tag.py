"""The command that trains and uses taggers: tag train, tag predict, tag evaluate."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jsonargparse import Namespace
from jsonargparse.typing import ClosedUnitInterval

from charembed.cli.command import Command
from charembed.cli.options import add_cluster, add_config, add_device, add_files, read_corpus
from charembed.cli.parser import Parser
from charembed.errors import CharEmbedError
from charembed.util.files import atomic_file, sole_writer, user_path
from charembed.util.outputs import output_file

if TYPE_CHECKING:
    from charembed.tagging.tagged_text import TaggedText
    from charembed.tagging.tagger import Tagger

_SUFFIXES = (".jsonl", ".conll")
_WHITE_SPACE = re.compile(r"\s")


def run_tag_train(arguments: Namespace) -> int:
    """Train a tagger on a labelled file."""
    import torch

    from charembed.report.writing import write_final_report
    from charembed.tagging.training import TaggerConfig, train_tagger

    arguments.pop("config")  # the path of the configuration file is not an option of the run
    config = TaggerConfig(**vars(arguments))
    torch.set_num_threads(config.threads)
    try:
        _, report = train_tagger(config)
    except KeyboardInterrupt:
        print(
            "charembed: to resume after the last epoch, run the same command again (without --overwrite)",
            file=sys.stderr,
        )
        raise
    write_final_report(user_path(config.output))
    print(report.table())
    print(f"{config.output}: best epoch {report.best_epoch} of {len(report.curve)}; details in report.json")
    return 0


def _add_train_options(parser: Parser) -> None:
    from charembed.tagging.training import TaggerConfig

    add_config(parser)
    parser.add_class_arguments(TaggerConfig)


def run_tag_predict(arguments: Namespace) -> int:
    """Tag the lines of files."""
    from tqdm import tqdm

    from charembed.tagging.records import tagged_record

    if arguments.cluster is not None:
        return _predict_on_cluster(arguments)

    output = _output_path(arguments.output)
    tagger = _load(arguments)
    corpus = read_corpus(arguments)
    files = [source for source in corpus.sources if isinstance(source, Path)]
    if output is not None and output.exists() and any(file.samefile(output) for file in files):
        raise CharEmbedError(f"output {output} is also a file to tag: choose another one")
    texts = corpus.texts()
    sources: deque[tuple[str, int]] = deque()

    def remember() -> Iterator[str]:
        for text in texts:
            sources.append((text.source, text.number))
            yield text.text

    # The tagger reads ahead, but keeps the order: the sources of texts that are written already are dropped.
    with (
        _open_output(output) as (file, form),
        # Texts arrive batch by batch: the mean rate says more than that of the last batch.
        tqdm(
            unit=" characters",
            unit_scale=True,
            disable=output is None or None,
            dynamic_ncols=True,
            smoothing=0,
        ) as progress,
    ):
        for tagged in tagger.iter_predict(remember()):
            source, number = sources.popleft()
            tagged = tagged.without_doubtful(arguments.min_score)
            if form == ".jsonl":
                record = tagged_record(tagged, source, number, tagger.layers)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            else:
                file.write(_columns(tagged))
            progress.update(len(tagged.text))
    return 0


def _predict_on_cluster(arguments: Namespace) -> int:
    from charembed.cluster.tagging import tag_on_cluster

    if arguments.output == "-":
        raise CharEmbedError("--cluster writes a folder of Parquet files: name it with --output")
    arguments.threads = 1  # one worker per core
    tagger = _load(arguments)
    manifest = tag_on_cluster(
        tagger,
        read_corpus(arguments),
        arguments.output,
        address=arguments.cluster,
        min_score=arguments.min_score,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.output}: {manifest.texts:,} texts in {manifest.files:,} files")
    return 0


def _add_predict_options(parser: Parser) -> None:
    _add_tagger(parser)
    add_files(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="-",
        type=str,
        help="File to write: .jsonl (one record per record or line of the input that is not blank, with character"
        " offsets and scores) or .conll (columns of words and tags); - writes JSONL to the terminal. With --cluster,"
        " the folder to write; to resume an interrupted run, run the same command again",
    )
    add_cluster(parser, "texts")
    parser.add_argument(
        "--overwrite",
        default=False,
        type=bool,
        help="With --cluster, delete what the folder already contains and start over instead of resuming",
    )
    parser.add_argument(
        "--min_score",
        default=0.0,
        type=ClosedUnitInterval,
        help="Leave out entities with a lower score, from 0 to 1: the tagger is less sure of them",
    )
    _add_engine(parser)


def run_tag_evaluate(arguments: Namespace) -> int:
    """Print the scores of a tagger on a labelled file."""
    from charembed.tagging.evaluation import evaluate_tagger
    from charembed.tagging.labelled_text import Columns
    from charembed.tagging.training_report import scores_table

    tagger = _load(arguments)
    columns = Columns(arguments.token_column, arguments.tag_columns)
    for name, scores in evaluate_tagger(tagger, arguments.file, columns).items():
        print(scores_table(name, scores))
    return 0


def _add_evaluate_options(parser: Parser) -> None:
    from charembed.tagging.training import TaggerConfig

    _add_tagger(parser)
    parser.add_argument("file", type=str, help="Labelled file, as for charembed tag train")
    parser.add_class_arguments(
        TaggerConfig,
        skip={field.name for field in dataclasses.fields(TaggerConfig)} - {"token_column", "tag_columns"},
    )
    _add_engine(parser)


def _add_tagger(parser: Parser) -> None:
    parser.add_argument(
        "tagger", type=str, help="Folder of a tagger, name of a bundled one, such as en-ner, or hf://owner/name"
    )


def _add_engine(parser: Parser) -> None:
    from charembed.embedding.embedder import CharEmbedder

    add_device(parser)
    parser.add_class_arguments(
        CharEmbedder, skip={"pretrained", "device", "readout", "parts", "cache_mb", "dim", "limits"}
    )


def _load(arguments: Namespace) -> Tagger:
    from charembed.embedding.options import EmbedderOptions
    from charembed.tagging.tagger import Tagger

    names = EmbedderOptions.__annotations__.keys()
    return Tagger.load(arguments.tagger, **{name: arguments[name] for name in names if name in arguments})


def _output_path(name: str) -> Path | None:
    """Return the path of the file to write; None for the terminal.

    Raises:
        CharEmbedError: its name says no format, or is not that of a regular file.
    """
    if name == "-":
        return None
    path = user_path(name)
    if path.suffix not in _SUFFIXES:
        raise CharEmbedError(f"output {name} must end in {' or '.join(_SUFFIXES)}, or be - for the terminal")
    output_file(path)
    return path


@contextlib.contextmanager
def _open_output(path: Path | None) -> Iterator[tuple[TextIO, str]]:
    """Open the file to write, which appears under its name when it is complete, and yield it with its format."""
    if path is None:
        yield sys.stdout, ".jsonl"
        return
    target = output_file(path)
    with (
        sole_writer(target),
        atomic_file(target) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield file, path.suffix


def _columns(tagged: TaggedText) -> str:
    """Return the words and tags of a text as lines of columns, with a blank line after them."""
    # White space would make a word or tag two columns.
    rows = (
        [_WHITE_SPACE.sub("_", cell) for cell in row] for row in zip(tagged.words, *tagged.tags.values(), strict=True)
    )
    return "".join("\t".join(row) + "\n" for row in rows) + "\n"


_COMMANDS = {
    "train": Command(
        run_tag_train,
        _add_train_options,
        "Train a tagger (named entities, parts of speech or any other tags) on a labelled file.",
        examples=(
            "charembed tag train --train train.conll --dev dev.conll --test test.conll --model en --output runs/tagger",
            "charembed tag train --train notes.jsonl --model runs/mine/best --output runs/notes",
            "charembed tag train --train train.conll --tag-columns '{pos: 1, ner: 3}' --output runs/both",
        ),
    ),
    "predict": Command(
        run_tag_predict,
        _add_predict_options,
        "Tag the words of text files; each line or record is one text.",
        examples=(
            "charembed tag predict en-ner my_text.txt",
            "charembed tag predict runs/tagger 'notes/*.txt' -o notes.jsonl --precision int8",
        ),
    ),
    "evaluate": Command(
        run_tag_evaluate,
        _add_evaluate_options,
        "Score a tagger on a labelled file.",
        examples=("charembed tag evaluate runs/tagger test.conll",),
    ),
}
TAG = Command.group(
    "Train a tagger on labelled text, tag text with it, score it.",
    _COMMANDS,
    examples=(
        "charembed tag train --train train.conll --model en --output runs/tagger",
        "charembed tag predict runs/tagger my_text.txt -o tagged.jsonl",
    ),
)
