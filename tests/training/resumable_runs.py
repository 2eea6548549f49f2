"""Small runs to stop and resume, and to kill at a chosen moment."""

from __future__ import annotations

import itertools
import os
import pkgutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh_process import PROCESSES
from helpers import EXCERPT, assert_same_weights, read_log, tiny_config, weights_of

from charembed import TrainConfig, train
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import CorpusConfig
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer

STEPS = 110
"""Steps of a resumable run: more than two epochs, and more than two readings of the losses."""
TIMES = ("seconds", "characters_per_second")
"""Values that may differ between a run in one piece and a resumed one."""


def resumable(folder: Path, **changes: object) -> TrainConfig:
    """Return the configuration of a run over some epochs, with dropout and a checkpoint after every step."""
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(EXCERPT.read_text(encoding="utf-8")[:6_000], encoding="utf-8")
    options: dict = {
        "data": CorpusConfig(train=str(text), held_out=0.1),
        "budget": BudgetConfig(steps=STEPS),
        "checkpoint_minutes": 1e-6,
        "validations": 5,
        "accumulation_steps": 2,
    }
    return tiny_config(folder, **options | changes)


def newest_checkpoint(run: Path) -> Checkpoint:
    """Return the newest checkpoint in the folder of a run."""
    return Checkpoint.load(saved_checkpoints(run / "checkpoints")[0])


@dataclass(frozen=True)
class Kill:
    """A moment at which a process kills itself: a call of a function."""

    function: str
    """Full name of the function or method."""
    call: int = 1
    """Number of the call, from 1."""
    condition: Callable[..., bool] | None = None
    """Condition on the arguments; other calls are not counted."""
    after: bool = False
    """Whether the function is still executed."""

    def install(self) -> None:
        """Replace the function."""
        owner_name, _, name = self.function.rpartition(".")
        owner = pkgutil.resolve_name(owner_name)
        original, calls = getattr(owner, name), itertools.count(1)

        def deadly(*arguments: Any, **options: Any) -> Any:
            counts = self.condition is None or self.condition(*arguments, **options)
            is_last = counts and next(calls) == self.call
            if is_last and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **options)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)


def kill_in_step(step: int) -> Kill:
    """Return a kill in the first direction's part of a step, counted from 1 in each process."""
    return Kill("charembed.training.direction_trainer.DirectionTrainer.step", call=2 * step - 1)


def is_last_step(trainer: Trainer) -> bool:
    """Return whether all steps of a resumable run are taken."""
    return trainer.state.step == STEPS


def moves_aside(_: object, target: object) -> bool:
    """Return whether a rename moves an old folder out of the way."""
    return str(target).endswith("old")


def run_and_kill(config: TrainConfig, kill: Kill) -> None:
    """Train in another process until the kill; fail if the process ends in another way."""
    process = PROCESSES.Process(target=_train, args=(config, kill))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the process was not killed"


def _train(config: TrainConfig, kill: Kill) -> None:
    kill.install()
    train(config)


def assert_same_run(folder: Path, expected: Path) -> None:
    """Fail unless two runs agree in everything except times: weights, optimizer, carried states, generators, log."""
    assert_same_weights(weights_of(folder), weights_of(expected), "last/")
    best, expected_best = (Pretrained.load(run / "best").model.state_dict() for run in (folder, expected))
    assert_same_weights(best, expected_best, "best/")
    checkpoint, expected_checkpoint = newest_checkpoint(folder), newest_checkpoint(expected)
    assert_same_weights(checkpoint.tensors, expected_checkpoint.tensors, "checkpoint")
    state, expected_state = checkpoint.state, expected_checkpoint.state
    for name in ("step", "epoch", "step_of_epoch", "documents", "lowest", "pending", "validations_done", "lr_factor"):
        assert getattr(state, name) == getattr(expected_state, name), name
    assert state.best is not None
    assert expected_state.best is not None
    assert state.best.scores == expected_state.best.scores
    logs = [[{k: v for k, v in r.items() if k not in TIMES} for r in read_log(run)] for run in (folder, expected)]
    validations, expected_validations = ([record for record in log if record["kind"] == "valid"] for log in logs)
    assert validations == expected_validations
    steps = [record["step"] for record in logs[0]]
    assert steps == sorted(steps), "the log contains a step twice"
