"""Receives a corpus and a configuration; trains both directions and hands on model folders."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from charembed.corpus import CorpusConfig, Sources
from charembed.devices import usable_device
from charembed.directions import DirectionPool
from charembed.errors import CharEmbedError, import_extra
from charembed.language_model import DIRECTIONS, BiCharLM, CharLM, CharLMConfig, Direction
from charembed.paths import printable, user_path
from charembed.pretrained import Pretrained, check_replaceable
from charembed.recurrent import State, map_state
from charembed.run_log import RunLog
from charembed.schedule import BudgetConfig, OptimizerConfig
from charembed.scoring import Score, score_both
from charembed.seeds import usable_seed
from charembed.stream import TextStreams, VocabConfig, Window, WindowStream, read_streams

logger = logging.getLogger(__name__)

CONFIG, BEST, LAST, LOCK = "config.yaml", "best", "last", ".charembed.lock"
LOG_SECONDS = 5.0
TELL_SECONDS = 60.0
"""How often to say how it goes where no progress bar can be drawn."""


@dataclass
class TrainConfig:
    """One training run: both directions of a character language model on one corpus."""

    output: str
    """Folder of the run: best/ and last/ are model folders, log.jsonl the progress, config.yaml this configuration."""
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
    batch_size: int = 8
    """Lanes of text read side by side."""
    seq_len: int = 64
    """Characters per lane and step, over which gradients flow back; states are carried on from step to step."""
    validations: int = 10
    """How many times to validate and save, spread evenly over the budget."""
    seed: int = 1
    """Of the held-out text, the initial weights, dropout and the places where epochs start."""
    device: str = "cpu"
    """Where to train: cpu, cuda, …"""
    tensorboard: bool = False
    """Write TensorBoard event files to the output folder too."""
    overwrite: bool = False
    """Replace a run that is in the output folder."""

    def __post_init__(self) -> None:
        self.output = os.fspath(user_path(self.output))
        for name in ("batch_size", "seq_len", "validations"):
            if getattr(self, name) < 1:
                raise CharEmbedError(f"{name} must be positive, got {getattr(self, name)}")
        usable_seed(self.seed)
        usable_device(self.device)
        self.optimizer = self.optimizer.for_cell(self.model.cell)

    @property
    def characters_per_step(self) -> int:
        """Characters that each direction reads in a step."""
        return self.batch_size * self.seq_len


@dataclass(frozen=True)
class Validation:
    """One validation during a run."""

    step: int
    seconds: float
    """Since training began, validation included."""
    characters: int
    """Read by each direction in training so far."""
    scores: dict[Direction, Score]

    @property
    def bits_per_character(self) -> float:
        """Mean of both directions."""
        return sum(score.bits_per_character for score in self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class TrainResult:
    """What a run gave."""

    folder: Path
    best: Validation
    last: Validation
    interrupted: bool
    """It was ended by Ctrl-C, before its budget was spent."""


class DirectionTrainer:
    """Model, optimiser, stream and carried state of one direction."""

    def __init__(self, lm: CharLM, windows: WindowStream, config: OptimizerConfig) -> None:
        self.lm = lm
        self.windows = windows
        self.clip_norm = config.clip_norm
        self.state: State | None = None
        matrices = [parameter for parameter in lm.parameters() if parameter.dim() > 1]
        biases = [parameter for parameter in lm.parameters() if parameter.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": biases, "weight_decay": 0.0}],
            lr=0.0,  # each step has its own
            betas=(config.beta1, config.beta2),
            fused=True,
        )

    def step(self, number: int, lr: float) -> Tensor:
        """One step of truncated back-propagation through time (Williams & Peng 1990).

        Returns:
            Mean loss of the window, in bits per character. Shape: ()
        """
        window: Window = self.windows.window(number)
        device = self.lm.decoder.weight.device
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        state = None if window.starts_epoch or self.state is None else map_state(torch.detach, self.state)

        self.optimizer.zero_grad()
        logits, self.state = self.lm(window.inputs.to(device), state)
        loss = functional.cross_entropy(logits.flatten(0, 1), window.targets.to(device).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.lm.parameters(), self.clip_norm)
        self.optimizer.step()

        return loss.detach() / math.log(2)


def train(config: TrainConfig) -> TrainResult:
    """Train both directions and write model folders.

    The best model by validation and the last one are kept in `output/best` and `output/last`, written at every
    validation. Ctrl-C ends the run early and keeps what it has.

    Raises:
        CharEmbedError: a corpus that cannot be read or is too small, an output folder in use, a loss that is no number.
        MissingExtraError: TensorBoard or a data format is asked for and its package is not installed.
        OSError: the output folder cannot be written.
    """
    folder = Path(config.output)
    _check_output(folder, config.overwrite)
    if config.tensorboard:
        import_extra("tensorboard", extra="train", purpose="tensorboard: true")
    streams = read_streams(config.data, config.vocab, config.seed)
    logger.info(
        "%s characters to train on, %s to validate on, from %s documents; %d character ids, %.4f %% unknown",
        *(f"{n:,}" for n in (len(streams.train), len(streams.valid), streams.documents)),
        len(streams.vocab),
        100 * streams.unknown_rate,
    )
    model, trainers = _build(config, streams)
    steps_per_epoch = trainers["forward"].windows.steps_per_epoch
    logger.info(
        "%s weights in both directions, %s steps an epoch",
        *(f"{n:,}" for n in (model.parameter_count(), steps_per_epoch)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            _start_output(folder, config)
            return _train(config, folder, streams, model, trainers)
    except Timeout as error:
        raise CharEmbedError(f"output {folder} is in use by another run: name another folder, or wait") from error


def _train(
    config: TrainConfig,
    folder: Path,
    streams: TextStreams,
    model: BiCharLM,
    trainers: dict[Direction, DirectionTrainer],
) -> TrainResult:
    """The run itself, in a folder that is ours."""
    steps_per_epoch = trainers["forward"].windows.steps_per_epoch
    pool = DirectionPool()
    step = validations = 0
    interrupted = False
    with RunLog(folder, tensorboard=config.tensorboard) as log, _progress_bar() as bar, logging_redirect_tqdm():
        keeper = _Keeper(config, folder, streams, model, pool, log)
        started = told = time.monotonic()
        meter = _Meter()
        spent = config.budget.spent(seconds=0.0, steps=0, steps_per_epoch=steps_per_epoch)
        last: Validation | None = None
        while last is None:
            try:
                while spent < 1.0 and not interrupted:
                    lr = config.optimizer.learning_rate(spent=spent, step=step)
                    meter.add(pool.map(partial(_step, trainers, step, lr)))
                    step += 1
                    seconds = time.monotonic() - started
                    spent = config.budget.spent(seconds=seconds, steps=step, steps_per_epoch=steps_per_epoch)

                    if meter.seconds >= LOG_SECONDS or spent >= 1.0:
                        rate = meter.steps * config.characters_per_step / meter.seconds
                        bits = meter.mean()
                        _check_finite(bits, step)
                        values = {"seconds": seconds, "characters": step * config.characters_per_step, "lr": lr}
                        log.write("train", step, **values, characters_per_second=rate, **_bits_fields(bits))
                        if bar.disable and time.monotonic() - told >= TELL_SECONDS:
                            told = time.monotonic()
                            logger.info("%.0f %% of the budget, %s", 100 * min(spent, 1.0), _describe(bits, rate))
                        bar.set_postfix_str(_describe(bits, rate))
                        meter = _Meter()
                    bar.update(min(spent, 1.0) - bar.n)

                    if (validations + 1) / config.validations <= spent < 1.0:
                        validations = int(spent * config.validations)
                        keeper.validate(step, started)
                        meter = _Meter()
                last = keeper.validate(step, started)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                logger.warning("interrupted: validating and saving what there is (Ctrl-C again to leave at once)")
    assert keeper.best is not None
    return TrainResult(folder, keeper.best, last, interrupted)


def _step(trainers: dict[Direction, DirectionTrainer], number: int, lr: float, direction: Direction) -> Tensor:
    return trainers[direction].step(number, lr)


class _Meter:
    """Mean loss over some steps, and how long they took."""

    def __init__(self) -> None:
        self.steps = 0
        self._started = time.monotonic()
        self._sums: dict[Direction, Tensor] = {}

    def add(self, losses: dict[Direction, Tensor]) -> None:
        self.steps += 1
        self._sums = {d: loss if self.steps == 1 else self._sums[d] + loss for d, loss in losses.items()}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def mean(self) -> dict[Direction, float]:
        return {d: float(total) / self.steps for d, total in self._sums.items()}  # the one wait for the device


@dataclass
class _Keeper:
    """Validates, and keeps the last model and the best."""

    config: TrainConfig
    folder: Path
    streams: TextStreams
    model: BiCharLM
    pool: DirectionPool
    log: RunLog
    best: Validation | None = None

    def validate(self, step: int, started: float) -> Validation:
        scores = score_both(self.model, self.streams.valid, self.streams.vocab, self.pool)
        characters = step * self.config.characters_per_step
        last = Validation(step, time.monotonic() - started, characters, scores)
        bits = {d: score.bits_per_character for d, score in scores.items()}
        _check_finite(bits, step)
        provenance = _provenance(self.config, self.streams, last)
        pretrained = Pretrained(self.model, self.streams.vocab, provenance=provenance)
        pretrained.save(self.folder / LAST)
        if self.best is None or last.bits_per_character < self.best.bits_per_character:
            self.best = last
            pretrained.save(self.folder / BEST)
        self.log.write("valid", step, seconds=last.seconds, characters=characters, **_bits_fields(bits))
        logger.info(
            "step %s, %.1f min, %s characters each way: validation %.4f bits per character forward, %.4f backward",
            f"{step:,}", last.seconds / 60, f"{characters:,}", bits["forward"], bits["backward"],
        )  # fmt: skip
        return last


def _bits_fields(bits: dict[Direction, float]) -> dict[str, float]:
    return {f"bits_per_character_{direction}": value for direction, value in bits.items()}


def _describe(bits: dict[Direction, float], rate: float) -> str:
    return f"bits → {bits['forward']:.3f} ← {bits['backward']:.3f}, {rate:,.0f} char/s"


def _check_output(folder: Path, overwrite: bool) -> None:
    """A run that left no model is replaced; one that did, when asked to; anything else never.

    What makes a folder that of a run is its lock file, which nothing but a run writes.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CharEmbedError(f"output {folder} is a file: name a folder")
    if not (folder / LOCK).exists() and any(folder.iterdir()):
        raise CharEmbedError(f"output {folder} holds something that is no training run: name another folder")
    if not overwrite and ((folder / BEST).exists() or (folder / LAST).exists()):
        raise CharEmbedError(f"output {folder} holds a run already: name another folder, or say overwrite: true")
    for name in (BEST, LAST):
        check_replaceable(folder / name)


def _start_output(folder: Path, config: TrainConfig) -> None:
    """Check once more, now that nobody else can write here. Models of an earlier run stay until this one saves."""
    _check_output(folder, config.overwrite)
    fields = dataclasses.asdict(config)
    fields["data"] |= {name: _printable(names) for name in ("train", "valid") if (names := fields["data"][name])}
    (folder / CONFIG).write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")


def _build(config: TrainConfig, streams: TextStreams) -> tuple[BiCharLM, dict[Direction, DirectionTrainer]]:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = BiCharLM(dataclasses.replace(config.model, vocab_size=len(streams.vocab))).to(config.device)
    trainers: dict[Direction, DirectionTrainer] = {}
    for number, direction in enumerate(DIRECTIONS):
        ids = streams.train if direction == "forward" else streams.train[::-1]
        windows = WindowStream(ids, config.batch_size, config.seq_len, config.seed)
        lm = model.direction(direction)
        lm.seed_dropout(2 * config.seed + number)
        trainers[direction] = DirectionTrainer(lm, windows, config.optimizer)
    return model, trainers


def _check_finite(bits: dict[Direction, float], step: int) -> None:
    for direction, value in bits.items():
        if not math.isfinite(value):
            raise CharEmbedError(
                f"the {direction} model's loss is {value} by step {step}: lower optimizer.lr;"
                " the models saved before are kept"
            )


def _provenance(config: TrainConfig, streams: TextStreams, validation: Validation) -> dict[str, Any]:
    """What the model folder says of where its weights come from."""
    score = validation.scores["forward"]
    return {
        "corpus": _printable(config.data.train),
        "corpus_sha256": streams.fingerprint,
        "corpus_documents": streams.documents,
        "training_characters": len(streams.train),
        "characters_seen": validation.characters,
        "minutes": round(validation.seconds / 60, 2),
        "bits_per_character": {d: round(s.bits_per_character, 4) for d, s in validation.scores.items()},
        "validation_characters": score.characters,
        "validation_unknown_rate": score.unknown_rate,
        "seed": config.seed,
        "torch_version": torch.__version__,
    }


def _printable(names: Sources) -> Sources:
    """File names that are no UTF-8 would end the run when they are written down."""
    return printable(names) if isinstance(names, str) else [printable(name) for name in names]


def _progress_bar() -> Any:
    """A bar over the share of the budget; nothing where standard error is no terminal."""
    layout = "{percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, bar_format=layout, disable=None, dynamic_ncols=True)
