"""The command that compares language models by taggers: probe."""

from __future__ import annotations

import sys

from jsonargparse import Namespace

from charembed.cli.command import Command
from charembed.cli.options import add_config
from charembed.cli.parser import Parser


def run_probe(arguments: Namespace) -> int:
    """Compare language models by the taggers that can be trained on their vectors."""
    import torch

    from charembed.tagging.probe import ProbeConfig, compare_models

    arguments.pop("config")  # the path of the configuration file is not an option of the run
    config = ProbeConfig(**vars(arguments))
    torch.set_num_threads(config.threads)
    try:
        comparison = compare_models(config)
    except KeyboardInterrupt:
        if config.output is not None:
            print("charembed: to resume after the last tagger, run the same command again", file=sys.stderr)
        raise
    print(comparison.table())
    for sentence in comparison.conclusions():
        print(f"\n{sentence}")
    return 0


def _add_options(parser: Parser) -> None:
    from charembed.tagging.probe import ProbeConfig

    add_config(parser)
    parser.add_class_arguments(ProbeConfig)


PROBE = Command(
    run_probe,
    _add_options,
    "Compare language models: train taggers on the vectors of each, with several seeds, and print their scores.",
    examples=(
        "charembed probe --models '[en, runs/mine/best]' --train train.conll --dev dev.conll --test test.conll",
        "charembed probe --models '[en, runs/mine/best]' --train my.conll --seeds '[1, 2, 3, 4]' --output probe.json",
    ),
)
