"""The commands that train models: train, report."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from jsonargparse import Namespace

from charembed.cli.command import Command
from charembed.cli.options import add_config
from charembed.cli.parser import Parser


def run_train(arguments: Namespace) -> int:
    """Train a model, or print what a training run would do."""
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
    """Print a table of training runs."""
    from charembed.training.report import table
    from charembed.training.run_folder import load_report

    print(table({name: load_report(Path(name)) for name in arguments.runs}))
    return 0


def _add_report_options(parser: Parser) -> None:
    parser.add_argument("runs", nargs="+", type=str, help="Output folders of charembed train")


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
    "Print the state and results of training runs, finished or running, as a table.",
    examples=("charembed report runs/mine", "charembed report runs/*"),
)
