"""The configuration of a training run, checked."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, CharLMConfig, Direction
from charembed.pretrained.hub import BUNDLED_MODELS, resolve_folder
from charembed.pretrained.model_folder import read_architecture
from charembed.text.corpus import CorpusConfig, SourceNames
from charembed.text.vocab import VocabConfig
from charembed.training.objective import ObjectiveConfig
from charembed.training.precision import (
    ComputePrecision,
    Precision,
    can_train_in,
    normalize_precision,
)
from charembed.training.schedule import BudgetConfig, OptimizerConfig
from charembed.training.static_vectors import StaticVectorsConfig, normalize_words
from charembed.util.checks import check_integer, check_seed
from charembed.util.devices import check_device
from charembed.util.files import escape_undecodable, run_path
from charembed.util.shared_folder import is_address


@dataclass(frozen=True)
class StepOptions:
    """The part of a configuration that a training step depends on."""

    optimizer: OptimizerConfig
    """The optimizer."""
    objective: ObjectiveConfig
    """What to predict."""
    precision: ComputePrecision
    """Precision of the computation."""
    batch_size: int
    """Lanes of text in each process."""
    seq_len: int
    """Characters of a window in each lane."""
    accumulation_steps: int
    """Windows in one step."""
    seed: int
    """Seed of dropout."""

    def characters_per_step(self, world_size: int = 1) -> int:
        """Return how many characters each direction reads in one optimizer step, in all processes together."""
        return self.batch_size * self.seq_len * self.accumulation_steps * world_size


@dataclass
class TrainConfig:
    """One training run: a character language model in both directions, or in one, on one corpus."""

    output: str
    """Folder to write: best/ and last/ (model folders), report.json (a summary), log.jsonl (losses over time),
    config.yaml (this configuration), checkpoints/ and the encoded text. If the run stops early, the same command
    resumes it."""
    data: CorpusConfig
    """The training text and the validation text."""
    model: CharLMConfig = field(default_factory=CharLMConfig)
    """The architecture of the language models."""
    vocab: VocabConfig = field(default_factory=VocabConfig)
    """The character vocabulary."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How long to train, in minutes, steps or epochs. If several are given, the first one to be spent ends the run; if
    none is, 60 minutes."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer and the learning rate schedule."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What to predict besides the next character."""
    mirror: str | None = None
    """Address to which each checkpoint and model is copied, such as s3://bucket/runs/mine. If the output folder is
    empty and the address holds a run, the run is fetched and resumed: so it moves to another machine."""
    init: str | None = None
    """Model to start from instead of random weights: a bundled model (en), a model folder or hf://owner/name. Its
    architecture and vocabulary are kept; vocab.grow adds the characters of the new text. Use it to adapt a model to
    your domain."""
    words: str = "auto"
    """Static word vectors to put beside the states of the language models: auto trains them on the training text if
    gensim is installed (charembed[words]), and keeps those of init if it has some; train trains them, none makes none.
    Or a file or folder to read them from: a text file of word2vec, GloVe or fastText, a folder of model2vec or a model
    folder."""
    static_vectors: StaticVectorsConfig = field(default_factory=StaticVectorsConfig)
    """How to train static word vectors."""
    direction: Literal["both", "forward", "backward"] = "both"
    """Language models to train: both at the same time, or one alone. One alone gets the same weights as in both, so the
    two can be trained on different machines."""
    batch_size: int | None = None
    """Lanes of text read in parallel by each process. More lanes use the processor better and need more memory. The
    default depends on the device: 16 on a CPU; 512 on a GPU, fewer if the text is short."""
    seq_len: int = 64
    """Characters per lane in one window, the span that gradients flow back over. The hidden state is carried from
    window to window, so the model remembers more than this."""
    accumulation_steps: int = 1
    """Windows whose gradients are averaged for one optimizer step. Raise it for a larger effective batch when memory is
    short."""
    validations: int = 10
    """Number of times to score the validation text and save the model, spread evenly over the budget."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints: the most that is lost when the run is killed."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep, the latest ones."""
    rollbacks: int = 0
    """How many times to return to the last checkpoint and halve the learning rate when the loss diverges or becomes
    NaN; 0 stops with an error."""
    seed: int = 1
    """Seed of the held-out text, the initial weights, dropout and the order of documents. The same seed gives the same
    weights on the same machine."""
    device: str = "cpu"
    """Device to train on: cpu, cuda, cuda:1, …"""
    precision: Precision = "auto"
    """Precision of the computation: float32; tf32 for float32 numbers whose products are computed in TF32, on NVIDIA
    GPUs only (elsewhere it is float32); bfloat16 (also spelled bf16) with PyTorch's automatic mixed precision.
    auto chooses bfloat16 where it is faster: for an LSTM on a device with bfloat16 units, on a CPU up to hidden size
    768. Weights are float32 in any case."""
    tensorboard: bool = False
    """Also write TensorBoard event files to the output folder. Needs charembed[train]."""
    overwrite: bool = False
    """Start over if the output folder holds an earlier run, instead of resuming it."""

    def __post_init__(self) -> None:
        self._normalize()
        self._check_values()
        self._check_combinations()
        if self.init is not None:
            self.model = _initial_architecture(self.init, self.model)
        if not can_train_in(self.precision, self.model, torch.device(self.device)):
            raise CharEmbedError(
                "precision bfloat16: PyTorch cannot run an LSTM in bfloat16 on this CPU: use auto or float32"
            )

    def _normalize(self) -> None:
        # Paths become strings and precisions get one spelling, so that config.yaml can be compared.
        self.output = os.fspath(run_path(self.output))
        self.words = normalize_words(os.fspath(self.words))
        self.precision = cast(Precision, normalize_precision(self.precision))
        # A bundled model is recorded by its name, which is the same on every machine.
        if self.init is not None:
            folder = resolve_folder(self.init)
            self.init = folder.name if folder.parent == BUNDLED_MODELS else os.fspath(folder)

    def _check_values(self) -> None:
        for name in ("seq_len", "accumulation_steps", "validations", "keep_checkpoints"):
            check_integer(name, getattr(self, name))
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size)
        check_integer("rollbacks", self.rollbacks, minimum=0)
        if not self.checkpoint_minutes > 0:
            raise CharEmbedError(f"checkpoint_minutes must be positive, got {self.checkpoint_minutes}")
        if self.direction not in ("both", *DIRECTIONS):
            raise CharEmbedError(f"direction must be both, forward or backward, got {self.direction!r}")
        if self.precision not in get_args(Precision):
            raise CharEmbedError(f"precision must be auto, float32, tf32 or bfloat16, got {self.precision!r}")
        if self.mirror is not None and not is_address(self.mirror):
            raise CharEmbedError(f"mirror must be an address such as s3://bucket/runs/mine, got {self.mirror}")
        check_seed(self.seed)
        check_device(self.device)

    def _check_combinations(self) -> None:
        if self.data.streaming and self.budget.epochs is not None:
            raise CharEmbedError("budget.epochs needs text that ends: with data.streaming, give minutes or steps")
        if self.vocab.grow and self.init is None and self.vocab.path is None:
            raise CharEmbedError("vocab.grow needs a vocabulary to start from: give init or vocab.path")
        if self.init is not None and self.vocab.path is not None:
            raise CharEmbedError("init has a vocabulary of its own: remove vocab.path")

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The language models to train."""
        return DIRECTIONS if self.direction == "both" else (self.direction,)

    @property
    def step_options(self) -> StepOptions:
        """The part of the configuration that a step depends on, once `resolve_settings` has left nothing open."""
        assert self.batch_size is not None, "resolve_settings sets it"
        assert self.precision != "auto", "resolve_settings sets it"
        return StepOptions(
            optimizer=self.optimizer,
            objective=self.objective,
            precision=cast(ComputePrecision, self.precision),
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            accumulation_steps=self.accumulation_steps,
            seed=self.seed,
        )


def _initial_architecture(init: str, requested: CharLMConfig) -> CharLMConfig:
    """Return the architecture of a finished model, with the dropout that the new run requests.

    Raises:
        CharEmbedError: `init` is not a model folder, or the run requests another architecture.
    """
    given, default = read_architecture(init), CharLMConfig()
    for name in (member.name for member in dataclasses.fields(CharLMConfig)):
        if name in ("dropout", "vocab_size"):  # do not depend on the initial model
            continue
        # A value other than the default was requested by the user, and must agree.
        requested_value, given_value = getattr(requested, name), getattr(given, name)
        if requested_value not in (getattr(default, name), given_value):
            raise CharEmbedError(f"init {init} has {name} {given_value}, not {requested_value}: remove model.{name}")
    return dataclasses.replace(given, dropout=requested.dropout, vocab_size=None)


def as_fields(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as plain values that any UTF-8 file can hold, whatever the file names in it."""
    fields = dataclasses.asdict(config)
    for name in ("train", "valid"):
        if fields["data"][name]:
            fields["data"][name] = escape_sources(fields["data"][name])
    return fields


def escape_sources(names: SourceNames) -> SourceNames:
    """Return names of text with the bytes escaped that are not UTF-8."""
    return escape_undecodable(names) if isinstance(names, str) else [escape_undecodable(name) for name in names]


# What may differ between a run and its resumption. The weights depend on none of these, with two exceptions: the budget
# may be raised, and the names of the text may change, because its content is compared instead.
MAY_CHANGE = {
    "output",
    "data.train",
    "data.valid",
    "data.cache",
    "data.max_text_mb",
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
    "mirror",
}


OPEN_SETTINGS: dict[str, Any] = {"batch_size": None, "optimizer.lr": None, "precision": "auto"}
"""Settings of a step that may be left open, each with the value that says so: `resolve_settings` chooses them for the
device, and a run that resumes keeps them."""


def open_settings(config: TrainConfig) -> list[str]:
    """Return the names of the settings of a step that the configuration leaves open."""
    fields = flatten(dataclasses.asdict(config))
    return [name for name, value in OPEN_SETTINGS.items() if fields[name] == value]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the differences between two configurations that keep a run from being resumed.

    Args:
        before: fields of the configuration that the run was started with, by this version or by 0.1.0.
        now: fields of the configuration to resume it with.

    Returns:
        One line for each field: its name and both values.
    """
    old, new = flatten(before), flatten(now)
    if "objective" not in before:  # the run was started with a version that predicted characters alone
        old |= flatten({"objective": dataclasses.asdict(ObjectiveConfig())})
    if "words" not in before:  # a run of a version without static vectors stays without them
        old |= flatten({name: now[name] for name in ("words", "static_vectors")})
    if "precision" in old:
        old["precision"] = normalize_precision(old["precision"])
    are_open = {name for name, value in OPEN_SETTINGS.items() if new[name] == value}
    names = sorted((old.keys() | new.keys()) - MAY_CHANGE - are_open)
    return [f"{name} {old.get(name)!r} → {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields under dotted names, as the command line spells them."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
