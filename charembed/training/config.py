"""Receives what a user wants of a training run; hands it on checked."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, CharLMConfig, Direction
from charembed.pretrained.hub import BUNDLED_MODELS, resolve_folder
from charembed.pretrained.model_folder import read_architecture
from charembed.text.corpus import CorpusConfig, SourceNames
from charembed.text.vocab import VocabConfig
from charembed.training.schedule import BudgetConfig, OptimizerConfig
from charembed.util.checks import check_seed
from charembed.util.devices import check_device, has_bfloat16_units, runs_bfloat16_lstm
from charembed.util.files import escape_undecodable, user_path

Precision = Literal["auto", "float32", "bfloat16", "bf16"]
MAX_BFLOAT16_HIDDEN_SIZE = 768
"""On a CPU, PyTorch's LSTM in bfloat16 is slower than in float32 above this (docs/benchmarks/training.md)."""


def full_name(precision: Precision) -> Precision:
    """Return the name of a precision in full: `bf16`, which version 0.1.0 wrote, is `bfloat16`."""
    return "bfloat16" if precision == "bf16" else precision


@dataclass
class TrainConfig:
    """One training run: a character language model in both directions, or in one, on one corpus."""

    output: str
    """Folder of the run: best/ and last/ are model folders, report.json says how it went, log.jsonl in detail,
    config.yaml holds this configuration. A run that was ended before its budget was spent goes on when it is started
    again with the same configuration."""
    data: CorpusConfig
    """The text to train on."""
    model: CharLMConfig = field(default_factory=CharLMConfig)
    """The architecture."""
    vocab: VocabConfig = field(default_factory=VocabConfig)
    """The vocabulary."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How long to train, in minutes, steps or epochs. Where several are given, the first one spent ends the run; where
    none is, 60 minutes."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser and its schedule."""
    init: str | None = None
    """Folder of a finished model, or hf://owner/name, to go on from, with its architecture and vocabulary (see
    vocab.grow)."""
    direction: Literal["both", "forward", "backward"] = "both"
    """Which language models to train: both at the same time, or one alone, which then is what it would be in both."""
    batch_size: int = 16
    """Lanes of text read side by side, in each process."""
    seq_len: int = 64
    """Characters per lane and window, over which gradients flow back; states are carried on from window to window."""
    accumulation_steps: int = 1
    """Windows whose gradients make one step of the optimiser."""
    validations: int = 10
    """How many times to validate and save the model, spread evenly over the budget."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints, from which a run that was killed goes on."""
    keep_checkpoints: int = 2
    """How many of them to keep, the latest."""
    rollbacks: int = 0
    """How many times to go back to the last checkpoint, with half the learning rate, when the loss is no number or
    leaps up; then, as at once by default, the run ends with an error."""
    seed: int = 1
    """Of the held-out text, the initial weights, dropout and the order of documents."""
    device: str = "cpu"
    """Where to train: cpu, cuda, …"""
    precision: Precision = "auto"
    """Precision of the computation: float32, or bfloat16 (also spelled bf16) for PyTorch's automatic mixed precision.
    auto is bfloat16 for an LSTM where the device has units for it, on a CPU up to hidden size 768. Weights are float32
    in any case."""
    tensorboard: bool = False
    """Write TensorBoard event files to the output folder too."""
    overwrite: bool = False
    """Start anew, in the place of a run that is in the output folder."""

    def __post_init__(self) -> None:
        self.precision = full_name(self.precision)
        self.output = os.fspath(user_path(self.output))
        if self.init is not None:
            folder = resolve_folder(self.init)
            self.init = folder.name if folder.parent == BUNDLED_MODELS else os.fspath(folder)
        for name in ("batch_size", "seq_len", "accumulation_steps", "validations", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise CharEmbedError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.checkpoint_minutes > 0:
            raise CharEmbedError(f"checkpoint_minutes must be positive, got {self.checkpoint_minutes}")
        if self.rollbacks < 0:
            raise CharEmbedError(f"rollbacks must not be negative, got {self.rollbacks}")
        if self.direction not in ("both", *DIRECTIONS):
            raise CharEmbedError(f"direction must be both, forward or backward, got {self.direction!r}")
        if self.precision not in get_args(Precision):
            raise CharEmbedError(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        if self.data.streaming and self.budget.epochs is not None:
            raise CharEmbedError("budget.epochs needs text that ends: with data.streaming give minutes or steps")
        if self.vocab.grow and self.init is None and self.vocab.path is None:
            raise CharEmbedError("vocab.grow needs a vocabulary to start from: give init or vocab.path")
        if self.init is not None and self.vocab.path is not None:
            raise CharEmbedError("init has a vocabulary of its own: leave vocab.path out")
        check_seed(self.seed)
        check_device(self.device)
        if self.init is not None:
            self.model = _architecture_of(self.init, self.model)
        if not self.trains_in(self.precision):
            raise CharEmbedError(
                "precision bfloat16: PyTorch cannot run an LSTM in it on this CPU: use auto or float32"
            )
        self.optimizer = self.optimizer.for_cell(self.model.cell)

    @property
    def precision_here(self) -> Literal["float32", "bfloat16"]:
        """What `precision` means on this machine."""
        if self.precision != "auto":
            return "bfloat16" if self.precision == "bfloat16" else "float32"
        device = torch.device(self.device)
        suits = self.model.cell == "lstm" and (
            device.type != "cpu" or self.model.hidden_size <= MAX_BFLOAT16_HIDDEN_SIZE
        )
        return "bfloat16" if suits and has_bfloat16_units(device) else "float32"

    def trains_in(self, precision: Precision) -> bool:
        """Whether PyTorch can run the model in a precision on the device."""
        return precision != "bfloat16" or self.model.cell != "lstm" or runs_bfloat16_lstm(torch.device(self.device))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The language models to train."""
        return DIRECTIONS if self.direction == "both" else (self.direction,)

    def characters_per_step(self, world_size: int = 1) -> int:
        """Characters that each direction reads in a step of the optimiser."""
        return self.batch_size * self.seq_len * self.accumulation_steps * world_size


def _architecture_of(init: str, wanted: CharLMConfig) -> CharLMConfig:
    """The architecture of a finished model, with the dropout that is wanted now.

    Raises:
        CharEmbedError: no model folder, or another architecture is wanted.
    """
    given, default = read_architecture(init), CharLMConfig()
    for name in (member.name for member in dataclasses.fields(CharLMConfig)):
        if name in ("dropout", "vocab_size"):  # a new run's own affair
            continue
        want, have = getattr(wanted, name), getattr(given, name)
        if want not in (getattr(default, name), have):
            raise CharEmbedError(f"init {init} has {name} {have}, not {want}: leave model.{name} out")
    return dataclasses.replace(given, dropout=wanted.dropout, vocab_size=None)


def as_fields(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values that any text file can hold, file names that are no UTF-8 too."""
    fields = dataclasses.asdict(config)
    fields["data"] |= {name: _printable(names) for name in ("train", "valid") if (names := fields["data"][name])}
    return fields


def _printable(names: SourceNames) -> SourceNames:
    return escape_undecodable(names) if isinstance(names, str) else [escape_undecodable(name) for name in names]


# What a run that goes on may have otherwise than when it was started: nothing that its weights depend on, but for the
# budget, which may be prolonged, and for names of text, whose content is compared.
MAY_CHANGE = {
    "output",
    "data.train",
    "data.valid",
    "data.cache",
    "budget.minutes",
    "budget.steps",
    "budget.epochs",
    "init",
    "vocab.path",
    "validations",
    "checkpoint_minutes",
    "keep_checkpoints",
    "rollbacks",
    "device",
    "tensorboard",
    "overwrite",
}


def differences(before: dict[str, Any], now: TrainConfig) -> list[str]:
    """What keeps a run from going on with a configuration.

    Args:
        before: fields of the configuration it was started with.
        now: that it is started with again.

    Returns:
        A line for each field: its name and both values.
    """
    old, new = _flat(before), _flat(as_fields(now))
    old["precision"] = full_name(old.get("precision", "auto"))
    names = sorted((old.keys() | new.keys()) - MAY_CHANGE)
    return [f"{name} {old.get(name)!r} → {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
