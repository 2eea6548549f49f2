"""Forecast a run: its size, its speed on this machine, and what its budget buys."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from charembed.errors import CharEmbedError
from charembed.training.allocator import keep_freed_memory
from charembed.training.config import TrainConfig
from charembed.training.device_settings import describe_settings, resolve_settings
from charembed.training.distributed import DistributedContext, launched_processes
from charembed.training.initial_model import load_initial
from charembed.training.model_trainer import ModelTrainer, encode_text
from charembed.training.schedule import BudgetConfig
from charembed.training.static_vectors import check_words, plan_static_vectors


@dataclass(frozen=True)
class DryRunLimits:
    """How much a dry run does."""

    warm_up_seconds: float = 2.0
    """Seconds of training steps before the measurement."""
    measured_seconds: float = 8.0
    """Seconds of training steps that are measured."""
    scored_characters: int = 20_000
    """Characters of the validation text that are scored to time a validation."""


@dataclass(frozen=True)
class Forecast:
    """What a run would be, measured with some of its own steps on this machine."""

    characters: int
    """Characters to train on; of a stream, those of its first segment."""
    validation_characters: int
    """Characters to validate on."""
    documents: int
    """Number of documents, held-out ones included."""
    vocabulary: int
    """Number of character ids."""
    unknown_rate: float
    """Share of the text that is read as <unk>."""
    words: int
    """Number of frequent words to predict; 0 if only characters are predicted."""
    share_of_words: float
    """Share of the words of the text that are frequent."""
    weights: int
    """Number of weights of all directions."""
    settings: str
    """Lanes, learning rate and precision of the steps, and which of them were chosen for the device."""
    static_vectors: str
    """Where the static word vectors would come from."""
    memory: int | None
    """Peak memory in bytes: of the device on a GPU, otherwise of this process; None on Windows."""
    characters_per_second: float
    """Rate of each direction while all of them train."""
    validation_seconds: float
    """Seconds of one validation."""
    hours: float
    """Hours that the budget takes, validations included."""
    characters_seen: float
    """Characters that each direction reads in these hours."""

    def __str__(self) -> str:
        epochs = self.characters_seen / self.characters
        words = []
        if self.words:
            words = [f"next words       {self.words:,} to predict, {self.share_of_words:.1%} of the words of the text"]
        memory = [] if self.memory is None else [f"memory           {self.memory / 2**20:,.0f} MiB at the peak"]
        duration = f"{self.hours:.1f} hours" if self.hours >= 2 else f"{60 * self.hours:.1f} minutes"
        return "\n".join(
            [
                f"text             {self.characters:,} characters to train on, {self.documents:,} documents in all,"
                f" {self.validation_characters:,} characters to validate on",
                f"vocabulary       {self.vocabulary:,} characters, {self.unknown_rate:.4%} of the text unknown",
                *words,
                f"weights          {self.weights:,}",
                f"steps            {self.settings}",
                f"word vectors     {self.static_vectors}",
                *memory,
                f"speed            {self.characters_per_second:,.0f} characters per second in each direction,"
                f" measured just now; {self.validation_seconds:.1f} s per validation",
                f"budget           takes {duration} and reads {self.characters_seen:,.0f} characters in"
                f" each direction, {epochs:.2f} times the text",
            ]
        )


def dry_run(config: TrainConfig, limits: DryRunLimits = DryRunLimits()) -> Forecast:
    """Encode the text, make the model, take some steps, and discard everything except the measurements.

    Args:
        config: the configuration of the run.
        limits: how long to measure.

    Raises:
        CharEmbedError: the text cannot be read or is too small, or there are several processes.
        OSError: the encoded text cannot be written next to the output folder.
    """
    if launched_processes() > 1:
        raise CharEmbedError("a dry run uses one process: run it without torchrun")
    keep_freed_memory()
    check_words(config.words)
    initial = load_initial(config.init, config.directions)
    with _text_folder(config) as folder:
        encoded = encode_text(config, folder, initial)
        requested, config = config, resolve_settings(config, encoded.characters)
        trainer = ModelTrainer(config, encoded, initial, DistributedContext())

        # Measure steps and a validation, each at the speed that it has in the run.
        _seconds_per_step(trainer, limits.warm_up_seconds)
        step_seconds = _seconds_per_step(trainer, limits.measured_seconds)
        began = time.monotonic()
        trainer.score(limits.scored_characters)
        scored = min(limits.scored_characters, len(encoded.valid))
        validation_seconds = (time.monotonic() - began) * len(encoded.valid) / scored

        # Extrapolate to the budget.
        other_validations = (config.validations - 1) * validation_seconds  # the last one comes after the budget
        steps = _steps_of_budget(config.budget, step_seconds, trainer.steps_per_epoch, other_validations)
        return Forecast(
            characters=encoded.characters,
            validation_characters=len(encoded.valid),
            documents=encoded.documents,
            vocabulary=len(encoded.vocab),
            unknown_rate=encoded.unknown_rate,
            words=len(trainer.frequent.words) if trainer.frequent else 0,
            share_of_words=trainer.frequent.share if trainer.frequent else 0.0,
            weights=trainer.model.parameter_count(),
            settings=describe_settings(requested, config),
            static_vectors=plan_static_vectors(config.words, config.static_vectors, initial, encoded.characters),
            memory=_peak_memory(trainer.device),
            characters_per_second=trainer.characters_per_step / step_seconds,
            validation_seconds=validation_seconds,
            hours=(steps * step_seconds + config.validations * validation_seconds) / 3600,
            characters_seen=steps * trainer.characters_per_step,
        )


@contextlib.contextmanager
def _text_folder(config: TrainConfig) -> Iterator[Path]:
    """Give the cache of the configuration, or a temporary folder on the disk that the run will use."""
    if config.data.cache is not None:
        yield Path(config.data.cache)
        return
    # The output folder does not exist yet: take the nearest folder above it that does.
    near = next(path for path in Path(config.output).resolve().parents if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".charembed-dry-run-", dir=near) as folder:
        yield Path(folder)


def _seconds_per_step(trainer: ModelTrainer, seconds: float) -> float:
    """Take at least one step, for at least some seconds, and return the mean time of a step."""
    began = time.monotonic()
    steps = 0
    while not steps or time.monotonic() - began < seconds:
        results = trainer.step(steps % trainer.steps_per_epoch, lr=0.0)
        steps += 1
        for result in results.values():
            result.bits_per_character.item()  # waits for the device
    return (time.monotonic() - began) / steps


def _steps_of_budget(
    budget: BudgetConfig, step_seconds: float, steps_per_epoch: int, validation_seconds: float
) -> float:
    """Return the number of steps that a budget allows.

    Args:
        budget: the budget.
        step_seconds: seconds of one step.
        steps_per_epoch: steps of one epoch.
        validation_seconds: seconds of all validations within the budget.
    """
    # As in training, the first limit to be reached ends the run.
    limits = []
    if budget.limit_minutes is not None:
        limits.append(max(0.0, 60.0 * budget.limit_minutes - validation_seconds) / step_seconds)
    if budget.steps is not None:
        limits.append(float(budget.steps))
    if budget.epochs is not None:
        limits.append(budget.epochs * steps_per_epoch)
    return min(limits)


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, others KiB
