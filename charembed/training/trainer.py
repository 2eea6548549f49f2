"""Run the training loop: take steps, validate, save checkpoints, and resume from them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.training.checkpoint import Checkpoint, latest_checkpoint, remove_newer
from charembed.training.config import TrainConfig, as_fields
from charembed.training.distributed import DistributedContext
from charembed.training.interruption import Interruption
from charembed.training.meter import LOG_EVERY, DivergedError, Meter
from charembed.training.mirror import Mirror
from charembed.training.model_trainer import ModelTrainer
from charembed.training.precision import check_resumable_in
from charembed.training.progress import Progress, StepSummary
from charembed.training.report import Report, State, describe_corpus
from charembed.training.result import TrainResult
from charembed.training.run_folder import RunFolder
from charembed.training.run_log import RunLog
from charembed.training.validation import Validation

logger = logging.getLogger(__name__)

SAMPLE_CHARACTERS = 200


class Trainer:
    """One training run. Everything that its result depends on is in its checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        model_trainer: ModelTrainer,
        distributed: DistributedContext,
        mirror: Mirror | None = None,
    ) -> None:
        """
        Args:
            config: the configuration of the run.
            folder: the folder of the run, claimed by the main process.
            model_trainer: the model and the text.
            distributed: the processes that train the model together.
            mirror: where the main process copies what it saves; None for nowhere.
        """
        self._config = config
        self._folder = folder
        self._model_trainer = model_trainer
        self._encoded = model_trainer.encoded
        self._distributed = distributed
        self._mirror = mirror
        self._meter = Meter(config.directions, distributed)
        self._progress: Progress
        self.state = model_trainer.initial_state(distributed.world_size)
        """State of the run. Its clock, and what the epochs, the meter and the log know, are brought up to date for each
        checkpoint."""
        self._started = self._checkpointed = time.monotonic()

    @property
    def _seconds(self) -> float:
        """Seconds of the run, those before it was resumed included."""
        return time.monotonic() - self._started

    @property
    def _characters(self) -> int:
        return self.state.step * self._model_trainer.characters_per_step

    @property
    def _characters_per_second(self) -> float:
        return self._characters / self.state.training_seconds if self.state.training_seconds else 0.0

    def run(self, checkpoint: Path | None = None) -> TrainResult:
        """Train until the budget is spent or a signal arrives.

        Args:
            checkpoint: the checkpoint to resume from; None to start with the first step.

        Raises:
            CharEmbedError: as in `train`.
            OSError: the folder cannot be written.
        """
        # Resume, unless there is nothing left to do.
        if checkpoint is not None:
            self._restore(checkpoint)
            moment = f"step {self.state.step:,}, after {self._seconds / 60:.1f} min"
            logger.info(f"resuming {self._folder.path} from its last checkpoint: {moment}")
            if self._is_finished():
                logger.info("its budget is spent: raise the budget to train longer, or start over with --overwrite")
                return self._result(None)
        # Open the log and the progress bar, and train until the run ends.
        with contextlib.ExitStack() as stack:
            log = None
            if self._distributed.is_main_process:
                offset, step = self.state.log_offset, self.state.step
                log = RunLog(self._folder.path, tensorboard=self._config.tensorboard, offset=offset, step=step)
            self._progress = stack.enter_context(Progress.open(log))
            if checkpoint is None:
                self._save_checkpoint()  # a folder that cannot hold a checkpoint fails now rather than later
            interruption = stack.enter_context(Interruption())
            while True:
                try:
                    return self._result(self._train(interruption))
                except DivergedError as error:
                    self._roll_back(error)

    def _train(self, interruption: Interruption) -> int | None:
        """Take steps until the budget is spent or a signal arrives; return the signal."""
        while True:
            # Decide: the main process looks at the clock and at signals, and all processes follow.
            spent, signal_number, checkpoint_is_due, has_time_to_validate = self._decide(interruption)
            self._progress.update(spent)

            # Stop when the budget is spent, or when a signal has arrived.
            if spent >= 1.0:
                if len(self._meter):
                    self._log_steps(spent)
                self._progress.flush()
                self._validate()
                self._save_checkpoint()
                self._progress.end(self.state.step, self._config.optimizer.warmup_steps)
                return None
            if signal_number:
                self._save_checkpoint()
                return signal_number

            # Once in a while: validate, and save a checkpoint. Each validation is followed by a checkpoint, so that the
            # best model is never newer than the state that a killed run resumes from.
            validations_due = int(spent * self._config.validations)
            if validations_due > self.state.validations_done:
                self.state.validations_done = validations_due
                if has_time_to_validate:
                    self._validate()
                else:
                    self._progress.validation_left_out(self.state.step)
                checkpoint_is_due = True
            if checkpoint_is_due:
                self._save_checkpoint()
                self._model_trainer.check_text()

            # One step: forward, backward and update, in all directions.
            self._take_step(spent)

            # Once in a while: read the losses, which waits for the device, and log them.
            if len(self._meter) >= LOG_EVERY:
                self._log_steps(spent)

    def _decide(self, interruption: Interruption) -> tuple[float, int, bool, bool]:
        """Return the share of the budget that is spent, the signal that arrived (0 for none), whether a checkpoint is
        due, and whether there is time for a validation; the same in all processes."""
        is_due = time.monotonic() - self._checkpointed >= 60.0 * self._config.checkpoint_minutes
        values = [self._spent(), interruption.signal or 0, is_due, self._has_time_to_validate()]
        spent, signal_number, checkpoint_is_due, has_time = self._distributed.broadcast_floats(values)
        return spent, int(signal_number), bool(checkpoint_is_due), bool(has_time)

    def _has_time_to_validate(self) -> bool:
        """Return whether the budget has time for one more validation before its end."""
        done, rate = len(self.state.validations), self._characters_per_second
        others = self._seconds - self.state.training_seconds
        # The next validation takes as long as those before it. The first reads its text as training does, but without a
        # backward pass, which is two thirds of the work.
        first = len(self._encoded.valid) / (3 * rate) if rate else 0.0
        return self._config.budget.allows_validation(others, others / done if done else first)

    def _spent(self) -> float:
        state, trainer = self.state, self._model_trainer
        epochs = trainer.epochs.number + state.step_of_epoch / trainer.steps_per_epoch
        return self._config.budget.spent(seconds=self._seconds, steps=state.step, epochs=epochs)

    def _is_finished(self) -> bool:
        """Return whether the budget is spent and the model is validated; the same in all processes."""
        last = self.state.last
        is_validated = last is not None and last.step == self.state.step
        spent, validated = self._distributed.broadcast_floats([self._spent(), is_validated])
        return spent >= 1.0 and bool(validated)

    def _learning_rate(self, spent: float, step: int) -> float:
        return self.state.lr_factor * self._config.optimizer.learning_rate(spent=spent, step=step)

    def _take_step(self, spent: float) -> None:
        # Forward, backward and update. On a GPU this only queues the work; reading the losses waits for it.
        state, trainer, began = self.state, self._model_trainer, time.monotonic()
        self._meter.add(trainer.step(state.step_of_epoch, self._learning_rate(spent, state.step)))
        state.training_seconds += time.monotonic() - began
        # Move on in the text.
        state.step += 1
        state.step_of_epoch += 1
        if state.step_of_epoch == trainer.steps_per_epoch:
            trainer.advance_epoch()
            state.step_of_epoch = 0

    def _log_steps(self, spent: float) -> None:
        """Read and log the losses of the last steps.

        Raises:
            DivergedError: the loss has diverged or is not finite.
        """
        began = time.monotonic()
        means = self._meter.take(self.state.step)
        self.state.training_seconds += time.monotonic() - began  # on a GPU, the steps are finished only now
        summary = StepSummary(
            step=self.state.step,
            spent=spent,
            seconds=self._seconds,
            characters=self._characters,
            characters_per_second=self._characters_per_second,
            lr=self._learning_rate(spent, self.state.step - 1),
            means=means,
        )
        self._progress.steps(summary)

    def _validate(self) -> None:
        """Have the main process score the model, and save it as the last one and, if it is, as the best one.

        Raises:
            DivergedError: the score is not finite.
        """
        # Score. All processes learn the result, so that all of them roll back if it is not finite.
        validation = None
        if self._distributed.is_main_process:
            scores, nats = self._model_trainer.score()
            validation = Validation(self.state.step, self._seconds, self._characters, scores, nats)
        (bits,) = self._distributed.broadcast_floats([validation.bits_per_character if validation else 0.0])
        if not math.isfinite(bits):
            raise DivergedError(f"the validation at step {self.state.step:,} gives {bits} bits per character")
        # Save the models and report.
        if validation is not None:
            self._save_models(validation)
            self._progress.validation(validation, self._model_trainer.sample(SAMPLE_CHARACTERS, self._config.seed))
            self._report("running").save(self._folder.report)

    def _save_models(self, validation: Validation) -> None:
        state, config = self.state, self._config
        state.validations.append(validation)
        provenance = validation.provenance(self._encoded, config.data, config.init, config.seed)
        provenance["words_predicted"] = config.objective.words or None
        pretrained = self._model_trainer.pretrained(provenance)
        pretrained.save(self._folder.last)
        if state.best is None or validation.bits_per_character < state.best.bits_per_character:
            state.best = validation
            pretrained.save(self._folder.best)

    def _save_checkpoint(self) -> None:
        """Write a checkpoint. All processes take part, since each has carried states and a generator of its own.

        Raises:
            DivergedError: a loss or a gradient of the last steps is not finite; nothing is written.
        """
        self._checkpointed = time.monotonic()
        # Each of these exchanges tensors, so every process must call it.
        state = dataclasses.replace(
            self.state,
            epoch=self._model_trainer.epochs.number,
            documents=self._model_trainer.epochs.documents,
            pending=self._meter.pending(self.state.step),
            lowest=self._meter.lowest,
        )
        tensors = self._model_trainer.tensors()
        # Only the main process writes.
        if self._distributed.is_main_process:
            state.seconds, state.log_offset = self._seconds, self._progress.log_offset
            Checkpoint(tensors, state).save(self._folder.checkpoints, self._config.keep_checkpoints)
            if self._mirror is not None:
                self._mirror.push()

    def _restore(self, path: Path) -> None:
        """Return to the moment at which a checkpoint was saved.

        Raises:
            CharEmbedError: the checkpoint cannot be read, or not be resumed with these processes or on this machine.
        """
        checkpoint = Checkpoint.load(path)
        state = checkpoint.state
        state.check_resumable(self.state, self._folder.path)
        check_resumable_in(state.precision, self._config.model, self._model_trainer.device, self._folder.path)
        if self._distributed.is_main_process:
            remove_newer(path)
        self._model_trainer.restore(checkpoint.tensors, state.epoch, state.documents, state.precision)
        self._meter.restore(state.pending, state.lowest)
        self.state = state
        self._started = time.monotonic() - state.seconds
        # If the budget was raised, a smaller share of it is spent, and fewer of its validations are done.
        (spent,) = self._distributed.broadcast_floats([self._spent()])
        state.validations_done = min(state.validations_done, int(spent * self._config.validations))

    def _roll_back(self, error: DivergedError) -> None:
        """Return to the last checkpoint with half the learning rate, if any rollbacks are left.

        Raises:
            CharEmbedError: none is left.
        """
        # Is a rollback left? These values must survive the return to the checkpoint.
        peak = self.state.lr_factor * (self._config.optimizer.lr or 0.0)
        rollbacks, seconds, lr_factor = self.state.rollbacks + 1, self._seconds, 0.5 * self.state.lr_factor
        if rollbacks > self._config.rollbacks:
            if self._distributed.is_main_process:
                self._report("diverged").save(self._folder.report)
            tried = f"{rollbacks - 1} rollbacks did not help" if rollbacks > 1 else "or try rollbacks: 3"
            raise CharEmbedError(
                f"{error}: lower optimizer.lr (it was {peak:g}) and start over with --overwrite, {tried}; the"
                " models and checkpoints saved before are kept"
            ) from error

        # Return to the last checkpoint, in all processes to the same one.
        path = latest_checkpoint(self._folder.checkpoints) if self._distributed.is_main_process else None
        path = self._distributed.broadcast_object(path)
        if path is None:
            raise CharEmbedError(f"{error}: there is no checkpoint to return to") from error
        self._restore(path)
        self.state.rollbacks, self.state.lr_factor = rollbacks, lr_factor
        self._started = time.monotonic() - seconds  # the time since that checkpoint is spent all the same
        self._progress.rollback(self.state.step, seconds, 0.5 * peak, str(error))

    def _report(self, run_state: State) -> Report:
        state = self.state
        return Report(
            state=run_state,
            steps=state.step,
            seconds=self._seconds,
            characters=self._characters,
            characters_per_second=self._characters_per_second,
            best=None if state.best is None else state.best.summary(),
            validations=[validation.summary() for validation in state.validations],
            corpus=describe_corpus(self._encoded, is_stream=self._config.data.streaming),
            weights=self._model_trainer.model.parameter_count(),
            precision=state.precision,
            rollbacks=state.rollbacks,
            config=as_fields(self._config),
            static_vectors=self._model_trainer.static_summary,
        )

    def _result(self, interrupted: int | None) -> TrainResult:
        """Return the result, after saving the report."""
        report = self._report("finished" if interrupted is None else "interrupted")
        is_main_process = self._distributed.is_main_process
        if is_main_process:
            report.save(self._folder.report)
            if self._mirror is not None:
                self._mirror.push(is_last=True)
        return TrainResult(self._folder.path, self.state.best, self.state.last, interrupted, report, is_main_process)
