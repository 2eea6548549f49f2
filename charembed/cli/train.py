"""The commands that train models and show how it went: train, report."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from jsonargparse import Namespace

from charembed.cli.command import Command
from charembed.cli.options import add_config
from charembed.cli.parser import Parser
from charembed.errors import CharEmbedError
from charembed.util.files import atomic_write, user_path
from charembed.util.outputs import check_output_folder, output_file


def run_train(arguments: Namespace) -> int:
    """Train a model, or print what a training run would do."""
    from charembed.report.writing import write_final_report
    from charembed.training.config import TrainConfig
    from charembed.training.dry_run import dry_run
    from charembed.training.report import table
    from charembed.training.run_folder import RunFolder
    from charembed.training.train import train

    only_estimate = arguments.pop("dry_run")
    arguments.pop("config")  # the path of the configuration file is not an option of the run
    config = TrainConfig(**vars(arguments))
    if only_estimate:
        print(dry_run(config))
        return 0
    result = train(config)
    # With several processes, only the first one prints. The status is that of a process ended by a signal.
    status = 0 if result.interrupted is None else 128 + result.interrupted
    if not result.is_main_process:
        return status
    if result.interrupted is not None:
        print(
            f"charembed: stopped by {signal.Signals(result.interrupted).name} after"
            f" {result.report.seconds / 60:.1f} min; to resume, run the same command again (without --overwrite)",
            file=sys.stderr,
        )
        return status
    write_final_report(result.folder)
    print(table({str(RunFolder(result.folder).best): result.report}))
    return 0


def _add_train_options(parser: Parser) -> None:
    from charembed.training.config import TrainConfig

    add_config(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Train nothing: print the size of text and model, the speed of this machine, and how much text the budget"
        " covers",
    )
    parser.add_class_arguments(TrainConfig)


def run_report(arguments: Namespace) -> int:
    """Print a table of training runs or of a tagger, or write a page and pictures."""
    folders = [user_path(name) for name in arguments.runs]
    outputs = {kind: user_path(arguments[kind]) for kind in ("html", "svg", "png") if arguments[kind] is not None}
    for kind, path in outputs.items():
        if kind == "html":
            output_file(path)
        else:
            check_output_folder(path)
    if arguments.watch and "html" not in outputs:
        raise CharEmbedError("--watch renews a page: name its file with --html")
    folders = _with_report(folders)
    if not outputs:
        _print_report(folders)
        return 0
    from charembed.report.writing import report_page, watch, write_figures

    if arguments.watch:
        print(f"{outputs['html']}: renewed until the runs end; Ctrl-C ends it", file=sys.stderr)
        watch(folders, outputs["html"])
    page = report_page(folders)
    for kind, path in outputs.items():
        if kind == "html":
            atomic_write(path, page.html())
            print(path)
        else:
            print("\n".join(map(str, write_figures(page, path, kind))))
    return 0


def _print_report(folders: list[Path]) -> None:
    from charembed.tagging.tagger_folder import is_tagger
    from charembed.tagging.training_report import TaggerReport
    from charembed.training.report import table
    from charembed.training.run_folder import load_report

    taggers = [folder for folder in folders if is_tagger(folder)]
    for folder in taggers:
        print(TaggerReport.load(folder).table())
    if runs := [folder for folder in folders if folder not in taggers]:
        print(table({str(folder): load_report(folder) for folder in runs}))


def _with_report(folders: list[Path]) -> list[Path]:
    """Return the folders of runs and taggers; others, such as models beside the runs of `runs/*`, are named.

    Raises:
        CharEmbedError: no folder is that of a run or a tagger.
    """
    from charembed.tagging.tagger_folder import is_tagger
    from charembed.training.report import Report

    readable: list[Path] = []
    errors: list[CharEmbedError] = []
    for folder in folders:
        try:
            if not is_tagger(folder):
                Report.load(folder)
            readable.append(folder)
        except CharEmbedError as error:
            errors.append(error)
    if not readable:
        raise errors[0]
    for left_out in errors:
        print(f"charembed: left out: {left_out}", file=sys.stderr)
    return readable


def _add_report_options(parser: Parser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=str, help="Output folders of charembed train, or one of charembed tag train"
    )
    parser.add_argument(
        "--html",
        type=str,
        default=None,
        help="Write a page with pictures to this file, which needs no network, instead of printing a table",
    )
    parser.add_argument(
        "--watch", action="store_true", help="Renew the page until the runs end; the browser reloads it"
    )
    for kind in ("svg", "png"):
        parser.add_argument(
            f"--{kind}", type=str, default=None, help=f"Write each picture into this folder, as a {kind.upper()} file"
        )


TRAIN = Command(
    run_train,
    _add_train_options,
    "Train a character language model in both directions on your own text.",
    examples=(
        "charembed train --data.train my_text.txt --output runs/mine --budget.minutes 60",
        "charembed train --config configs/small.yaml --data.train 'notes/*.txt.gz' --model.hidden-size 1024",
        "charembed train --data.train my_text.txt --output runs/mine --dry-run",
    ),
    usage="charembed train [--config FILE] --data.train TEXT --output FOLDER [options]",
)
REPORT = Command(
    run_report,
    _add_report_options,
    "Show the state and results of training runs, finished or running, or of a tagger: as a table, or as a page with"
    " pictures.",
    examples=(
        "charembed report runs/mine runs/other",
        "charembed report runs/mine runs/other --html report.html",
        "charembed report runs/tagger --svg figures",
    ),
)
