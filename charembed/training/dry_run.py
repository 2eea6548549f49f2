"""Receives a configuration; hands on what a run with it would be: its size, its speed here, what its budget buys."""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from charembed.dataset.encoded_corpus import encode_corpus
from charembed.dataset.windows import Epochs
from charembed.errors import CharEmbedError
from charembed.lm.model import Direction
from charembed.lm.scoring import score_all
from charembed.training.allocator import keep_freed_memory
from charembed.training.config import TrainConfig
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext, launched
from charembed.training.initial_model import load_initial, starting_model
from charembed.util.workers import WorkerPool

WARM_UP_SECONDS, MEASURED_SECONDS = 2.0, 8.0
SCORED_CHARACTERS = 20_000


@dataclass(frozen=True)
class Forecast:
    """What a run would be, measured with some of its own steps on this machine."""

    characters: int
    """To train on; of a stream, those of its first segment."""
    validation_characters: int
    documents: int
    vocabulary: int
    unknown_rate: float
    weights: int
    """Of all directions."""
    precision: str
    memory: int
    """Bytes at the peak: of the device on a GPU, else of this process."""
    characters_per_second: float
    """Of each direction, all of them at once."""
    validation_seconds: float
    """Of one validation."""
    hours: float
    """That the budget will take, validations included."""
    characters_seen: float
    """By each direction in these hours."""

    def __str__(self) -> str:
        epochs = self.characters_seen / self.characters
        duration = f"{self.hours:.1f} hours" if self.hours >= 2 else f"{60 * self.hours:.1f} minutes"
        return "\n".join(
            [
                f"text             {self.characters:,} characters to train on, {self.documents:,} documents in all,"
                f" {self.validation_characters:,} characters to validate on",
                f"vocabulary       {self.vocabulary:,} characters, {self.unknown_rate:.4%} of the text unknown",
                f"weights          {self.weights:,}, computed with in {self.precision}",
                f"memory           {self.memory / 2**20:,.0f} MiB at the peak",
                f"speed            {self.characters_per_second:,.0f} characters per second, each direction,"
                f" measured just now; {self.validation_seconds:.1f} s a validation",
                f"the budget       takes {duration} and reads {self.characters_seen:,.0f} characters in"
                f" each direction, {epochs:.2f} times the text",
            ]
        )


def dry_run(config: TrainConfig) -> Forecast:
    """Read the text, make the model, take some steps, and throw it all away.

    Raises:
        CharEmbedError: text that cannot be read or is too small, or several processes.
        OSError: no place for the encoded text beside the output folder.
    """
    if launched() > 1:
        raise CharEmbedError("a dry run is for one process: leave torchrun out")
    keep_freed_memory()
    initial = load_initial(config)
    with contextlib.ExitStack() as stack:
        if config.data.cache is not None:
            place = Path(config.data.cache)
        else:  # on the disk that the run will use, and gone afterwards
            near = next(path for path in Path(config.output).resolve().parents if path.is_dir())
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".charembed-dry-run-", dir=near)))
        encoded = encode_corpus(
            config.data, config.vocab, config.seed, place, None if initial is None else initial.vocab
        )
        device = torch.device(config.device)
        model = starting_model(config, encoded, initial).to(device)
        epochs = Epochs(encoded, config.data, config.seed)
        trainers: dict[Direction, DirectionTrainer] = {}
        for direction in config.directions:
            trainers[direction] = DirectionTrainer(model.direction(direction), direction, config, DistributedContext())
            trainers[direction].start_epoch(epochs.text)
        steps_per_epoch = trainers[config.directions[0]].steps_per_epoch
        pool = WorkerPool()

        def step(number: int, direction: Direction) -> StepResult:
            return trainers[direction].step(number % steps_per_epoch, lr=0.0)

        def steps_for(seconds: float) -> tuple[int, float]:
            began = time.monotonic()
            steps = 0
            while not steps or time.monotonic() - began < seconds:
                results = pool.map(partial(step, steps), config.directions)
                steps += 1
                for result in results.values():
                    result.bits_per_character.item()  # waits for the device
            return steps, time.monotonic() - began

        steps_for(WARM_UP_SECONDS)
        steps, elapsed = steps_for(MEASURED_SECONDS)
        began = time.monotonic()
        scored = encoded.valid[:SCORED_CHARACTERS]
        score_all(model, scored, encoded.vocab, pool)
        validation_seconds = (time.monotonic() - began) * len(encoded.valid) / len(scored)
    step_seconds = elapsed / steps
    training = _training_seconds(config, step_seconds, steps_per_epoch, validation_seconds)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Forecast(
        characters=encoded.characters,
        validation_characters=len(encoded.valid),
        documents=encoded.documents,
        vocabulary=len(encoded.vocab),
        unknown_rate=encoded.unknown_rate,
        weights=model.parameter_count(),
        precision=config.precision_here,
        memory=memory,
        characters_per_second=config.characters_per_step() / step_seconds,
        validation_seconds=validation_seconds,
        hours=(training + config.validations * validation_seconds) / 3600,
        characters_seen=training / step_seconds * config.characters_per_step(),
    )


def _training_seconds(
    config: TrainConfig, step_seconds: float, steps_per_epoch: int, validation_seconds: float
) -> float:
    """What of the budget is for steps."""
    budget = config.budget
    limits = []
    if budget.limit_minutes is not None:
        limits.append(max(0.0, 60.0 * budget.limit_minutes - (config.validations - 1) * validation_seconds))
    if budget.steps is not None:
        limits.append(budget.steps * step_seconds)
    if budget.epochs is not None:
        limits.append(budget.epochs * steps_per_epoch * step_seconds)
    return min(limits)
