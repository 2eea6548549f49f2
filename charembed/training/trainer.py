"""Receives a model, its text and a folder; trains, validates, saves, and goes on from where it was ended."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.dataset.windows import Epochs
from charembed.errors import CharEmbedError
from charembed.lm.generation import generate
from charembed.lm.model import BiCharLM, Direction, tensors_under
from charembed.lm.scoring import score_all
from charembed.pretrained.model_folder import Pretrained
from charembed.training.checkpoint import Checkpoint, latest_checkpoint, remove_newer
from charembed.training.config import TrainConfig, as_fields, full_name
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.interruption import Interruption
from charembed.training.meter import LOG_EVERY, DivergedError, Means, Meter
from charembed.training.report import Report
from charembed.training.run_folder import RunFolder
from charembed.training.run_log import RunLog
from charembed.training.validation import Validation
from charembed.util.workers import WorkerPool

logger = logging.getLogger(__name__)

LOG_SECONDS = 5.0
TELL_SECONDS = 60.0
"""How often to say how it goes where no progress bar can be drawn."""
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class TrainResult:
    """What a run gave."""

    folder: Path
    best: Validation | None
    """None where the run was ended before its first validation."""
    last: Validation | None
    interrupted: int | None
    """The signal that ended it before its budget was spent."""
    report: Report
    is_main_process: bool
    """Of several processes, the one that writes files and speaks."""


class Trainer:
    """A run in a folder that is ours. All that it depends on is in its checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        encoded: EncodedCorpus,
        model: BiCharLM,
        distributed: DistributedContext,
    ) -> None:
        """
        Args:
            config: of the run.
            folder: its own, in the first process.
            encoded: the text.
            model: on the device to train on, in training mode.
            distributed: processes that train it together.

        Raises:
            CharEmbedError: the text is too short for one window in each lane.
        """
        self._config = config
        self._folder = folder
        self._encoded = encoded
        self._model = model
        self._distributed = distributed
        self._pool = WorkerPool()
        self._trainers = {
            direction: DirectionTrainer(model.direction(direction), direction, config, distributed)
            for direction in config.directions
        }
        self._characters_per_step = config.characters_per_step(distributed.world_size)
        self._epochs = Epochs(encoded, config.data, config.seed, min_characters=self._characters_per_step)
        self._start_epoch()
        self._step = self._step_of_epoch = 0
        self._validations: list[Validation] = []
        self._best: Validation | None = None
        self._validations_done = 0
        """Of those that the budget is divided by."""
        self._meter = Meter(config.directions, distributed)
        self._lr_factor = 1.0
        self._rollbacks = 0
        self._training_seconds = 0.0
        """Of all seconds, those of steps."""
        self._started = time.monotonic()
        self._checkpointed = self._told = self._started
        self._logged = -math.inf
        self._log: RunLog | None = None

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def _precision(self) -> str:
        return next(iter(self._trainers.values())).precision

    @property
    def _characters(self) -> int:
        return self._step * self._characters_per_step

    def run(self, checkpoint: str = "") -> TrainResult:
        """Train until the budget is spent or a signal comes.

        Args:
            checkpoint: path of one to go on from; none by default.

        Raises:
            CharEmbedError: as in `train`.
            OSError: the folder cannot be written.
        """
        offset = 0
        if checkpoint:
            offset = self._go_back(Path(checkpoint))["log_offset"]
            logger.info(
                "going on from the last checkpoint of %s: step %s, after %.1f min",
                *(self._folder.path, f"{self._step:,}", self._seconds / 60),
            )
            validated = bool(self._validations) and self._validations[-1].step == self._step
            spent, at_end = self._distributed.broadcast_floats([self._spent(), validated])
            if spent >= 1.0 and at_end:
                logger.info("its budget is spent: raise it to train on, or say overwrite: true to start anew")
                return self._end(None)
        with contextlib.ExitStack() as stack:
            if self._distributed.is_main_process:
                tensorboard = self._config.tensorboard
                log = RunLog(self._folder.path, tensorboard=tensorboard, offset=offset, step=self._step)
                self._log = stack.enter_context(log)
            if not checkpoint:
                self._save_checkpoint()  # a folder that cannot hold one had better say so now
            bar = stack.enter_context(_progress_bar(hidden=not self._distributed.is_main_process))
            stack.enter_context(logging_redirect_tqdm())
            interruption = stack.enter_context(Interruption())
            while True:
                try:
                    stopped = self._train(bar, interruption)
                    break
                except DivergedError as error:
                    self._roll_back(error)
            return self._end(stopped)

    def _train(self, bar: Any, interruption: Interruption) -> int | None:
        """Steps until the budget is spent, with a validation after the last, or until a signal comes: which."""
        while True:
            spent, stop, checkpoint = self._decide(interruption)
            bar.update(min(spent, 1.0) - bar.n)
            if spent >= 1.0:
                if len(self._meter):
                    self._look(bar, spent, at_end=True)
                self._validate()
                self._save_checkpoint()
                return None
            if stop:
                self._save_checkpoint()
                return stop
            if (due := int(spent * self._config.validations)) > self._validations_done:
                self._validations_done = due
                self._validate()
                checkpoint = True  # what is best must not be better than what a run goes on from
            if checkpoint:
                self._save_checkpoint()
            self._take_step(spent)
            if len(self._meter) >= LOG_EVERY:
                self._look(bar, spent)

    def _spent(self) -> float:
        epochs = self._epochs.number + self._step_of_epoch / self._steps_per_epoch
        return self._config.budget.spent(seconds=self._seconds, steps=self._step, epochs=epochs)

    def _decide(self, interruption: Interruption) -> tuple[float, int, bool]:
        """Share of the budget that is spent, signal that came or 0, whether a checkpoint is due; for all processes."""
        due = time.monotonic() - self._checkpointed >= 60.0 * self._config.checkpoint_minutes
        spent, stop, checkpoint = self._distributed.broadcast_floats([self._spent(), interruption.signal or 0, due])
        return spent, int(stop), bool(checkpoint)

    def _take_step(self, spent: float) -> None:
        began = time.monotonic()
        lr = self._lr_factor * self._config.optimizer.learning_rate(spent=spent, step=self._step)
        self._meter.add(self._pool.map(partial(self._step_of, lr), self._config.directions))
        self._training_seconds += time.monotonic() - began
        self._step += 1
        self._step_of_epoch += 1
        if self._step_of_epoch == self._steps_per_epoch:
            self._epochs.advance()
            self._start_epoch()
            self._step_of_epoch = 0

    def _step_of(self, lr: float, direction: Direction) -> StepResult:
        return self._trainers[direction].step(self._step_of_epoch, lr)

    def _start_epoch(self) -> None:
        for trainer in self._trainers.values():
            trainer.start_epoch(self._epochs.text)
        self._steps_per_epoch = next(iter(self._trainers.values())).steps_per_epoch

    def _look(self, bar: Any, spent: float, *, at_end: bool = False) -> None:
        """Look at the losses of the last steps, and say how it goes."""
        began = time.monotonic()
        means = self._meter.take(self._step)
        now = time.monotonic()
        self._training_seconds += now - began
        rate = self._characters / self._training_seconds
        bar.set_postfix_str(_describe(means, rate))
        if self._log is not None and (at_end or now - self._logged >= LOG_SECONDS):
            self._logged = now
            values = {
                "seconds": self._seconds,
                "characters": self._characters,
                "lr": self._lr_factor * self._config.optimizer.learning_rate(spent=spent, step=self._step - 1),
                "characters_per_second": rate,
            }
            norms = {f"gradient_norm_{direction}": norm for direction, norm in means.gradient_norm.items()}
            self._log.write("train", self._step, **values, **_bits_fields(means.bits_per_character), **norms)
            if bar.disable and now - self._told >= TELL_SECONDS:
                self._told = now
                logger.info("%.0f %% of the budget, %s", 100 * min(spent, 1.0), _describe(means, rate))

    def _validate(self) -> None:
        """Measure the model, and save it as the last one and, if it is, the best; in the first process, for all."""
        last = None
        if self._distributed.is_main_process:
            scores = score_all(self._model, self._encoded.valid, self._encoded.vocab, self._pool)
            last = Validation(self._step, self._seconds, self._characters, scores)
        (bits,) = self._distributed.broadcast_floats([0.0 if last is None else last.bits_per_character])
        if not math.isfinite(bits):
            raise DivergedError(f"the validation at step {self._step:,} gives {bits} bits per character")
        if last is not None:
            self._keep(last)

    def _keep(self, last: Validation) -> None:
        self._validations.append(last)
        provenance = last.provenance(self._config, self._encoded)
        pretrained = Pretrained(self._model, self._encoded.vocab, provenance=provenance)
        pretrained.save(self._folder.last)
        if self._best is None or last.bits_per_character < self._best.bits_per_character:
            self._best = last
            pretrained.save(self._folder.best)
        sample = self._sample()
        assert self._log is not None
        values = {"seconds": last.seconds, "characters": last.characters} | _bits_fields(last.by_direction)
        self._log.write("valid", self._step, **values, sample=sample)
        self._report("running").save(self._folder.report)
        logger.info(
            "step %s, %.1f min, %s characters each way: validation %s bits per character",
            *(f"{self._step:,}", last.seconds / 60, f"{last.characters:,}"),
            ", ".join(f"{bits:.4f} {direction}" for direction, bits in last.by_direction.items()),
        )
        logger.info("it writes: %s", " ".join(sample.split()))

    def _sample(self) -> str:
        """Text that the forward model writes, or the backward one from its end."""
        direction = self._config.directions[0]
        lm = self._model.direction(direction)
        characters = generate(lm, self._encoded.vocab, temperature=0.7, seed=self._config.seed)
        text = "".join(itertools.islice(characters, SAMPLE_CHARACTERS))
        lm.train()
        return text if direction == "forward" else text[::-1]

    def _save_checkpoint(self) -> None:
        self._checkpointed = time.monotonic()
        pending = self._meter.pending(self._step)
        tensors: dict[str, Tensor] = {}
        for direction, trainer in self._trainers.items():
            tensors |= {f"{direction}.{name}": tensor for name, tensor in trainer.tensors().items()}
        if self._log is None:
            return
        facts = {
            "text": self._encoded.digests(),
            "world_size": self._distributed.world_size,
            "precision": self._precision,
            "step": self._step,
            "step_of_epoch": self._step_of_epoch,
            "epoch": self._epochs.number,
            "documents": self._epochs.documents,
            "seconds": self._seconds,
            "training_seconds": self._training_seconds,
            "validations": [asdict(validation) for validation in self._validations],
            "best": None if self._best is None else asdict(self._best),
            "validations_done": self._validations_done,
            "pending": pending,
            "lowest": self._meter.lowest,
            "lr_factor": self._lr_factor,
            "rollbacks": self._rollbacks,
            "log_offset": self._log.offset,
        }
        Checkpoint(tensors, facts).save(self._folder.checkpoints, self._step, self._config.keep_checkpoints)

    def _go_back(self, path: Path) -> dict[str, Any]:
        """Make everything what it was at a checkpoint, and return its facts."""
        checkpoint = Checkpoint.load(path)
        facts = checkpoint.facts
        if facts["world_size"] != self._distributed.world_size:
            raise CharEmbedError(
                f"the run in {self._folder.path} was started with {facts['world_size']} processes, not"
                f" {self._distributed.world_size}: go on with as many, or say overwrite: true"
            )
        precision = full_name(facts["precision"])
        if not self._config.trains_in(precision):
            raise CharEmbedError(
                f"the run in {self._folder.path} was begun in bfloat16, in which PyTorch cannot run an LSTM on this"
                " CPU: go on where it can, or start a new run from its last model with init"
            )
        if self._distributed.is_main_process:
            remove_newer(path)
        self._epochs.seek(facts["epoch"], facts["documents"])
        self._start_epoch()
        for direction, trainer in self._trainers.items():
            trainer.load(tensors_under(f"{direction}.", checkpoint.tensors))
            trainer.precision = precision  # of the machine where it began
        self._step, self._step_of_epoch = facts["step"], facts["step_of_epoch"]
        self._validations = [Validation.from_json(fields) for fields in facts["validations"]]
        self._best = None if facts["best"] is None else Validation.from_json(facts["best"])
        self._started = time.monotonic() - facts["seconds"]
        # Less than before where the budget was prolonged: the rest of it is divided anew.
        (spent,) = self._distributed.broadcast_floats([self._spent()])
        self._validations_done = min(facts["validations_done"], int(spent * self._config.validations))
        self._training_seconds = facts["training_seconds"]
        self._meter.restore(facts["pending"], facts["lowest"])
        self._lr_factor, self._rollbacks = facts["lr_factor"], facts["rollbacks"]
        return facts

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last checkpoint with half the learning rate, if that is wanted and not done too often."""
        lr = self._lr_factor * (self._config.optimizer.lr or 0.0)
        if self._rollbacks >= self._config.rollbacks:
            if self._log is not None:
                self._report("diverged").save(self._folder.report)
            tried = f"; {self._rollbacks} rollbacks did not help" if self._rollbacks else ", or give rollbacks: 3"
            raise CharEmbedError(
                f"{error}: lower optimizer.lr (it was {lr:g}) and start again with overwrite: true{tried}; models and"
                " checkpoints saved before are kept"
            ) from error
        rollbacks, seconds = self._rollbacks + 1, self._seconds
        path = self._distributed.broadcast_object(str(latest_checkpoint(self._folder.checkpoints) or ""))
        factor = 0.5 * self._lr_factor
        self._go_back(Path(path))
        self._rollbacks, self._lr_factor = rollbacks, factor
        self._started = time.monotonic() - seconds  # what was spent is spent
        logger.warning("%s: back to step %s with a learning rate of %g", error, f"{self._step:,}", 0.5 * lr)
        if self._log is not None:
            self._log.write("rollback", self._step, seconds=seconds, lr=0.5 * lr, reason=str(error))

    def _report(self, state: Literal["running", "interrupted", "diverged", "finished"]) -> Report:
        validations = [
            {"step": v.step, "seconds": v.seconds, "characters": v.characters, "bits_per_character": v.by_direction}
            for v in self._validations
        ]
        best = [fields for v, fields in zip(self._validations, validations, strict=True) if v == self._best]
        return Report(
            state=state,
            steps=self._step,
            seconds=self._seconds,
            characters=self._characters,
            characters_per_second=self._characters / self._training_seconds if self._training_seconds else 0.0,
            best=best[0] if best else None,
            validations=validations,
            corpus={
                "documents": None if self._config.data.streaming else self._encoded.documents,
                "characters": None if self._config.data.streaming else self._encoded.characters,
                "validation_characters": len(self._encoded.valid),
                "sha256": self._encoded.fingerprint,
                "vocabulary": len(self._encoded.vocab),
                "unknown_rate": self._encoded.unknown_rate,
            },
            weights=self._model.parameter_count(),
            precision=self._precision,
            rollbacks=self._rollbacks,
            config=as_fields(self._config),
        )

    def _end(self, interrupted: int | None) -> TrainResult:
        report = self._report("finished" if interrupted is None else "interrupted")
        if self._distributed.is_main_process:
            report.save(self._folder.report)
        last = self._validations[-1] if self._validations else None
        return TrainResult(self._folder.path, self._best, last, interrupted, report, self._distributed.is_main_process)


def _bits_fields(bits: dict[Direction, float]) -> dict[str, float]:
    return {f"bits_per_character_{direction}": value for direction, value in bits.items()}


def _describe(means: Means, rate: float) -> str:
    bits = " ".join(f"{direction} {value:.3f}" for direction, value in means.bits_per_character.items())
    return f"bits {bits}, {rate:,.0f} char/s"


def _progress_bar(*, hidden: bool) -> Any:
    """A bar over the share of the budget; nothing where standard error is no terminal."""
    layout = "{percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, bar_format=layout, disable=hidden or None, dynamic_ncols=True)
