"""A loss that diverges ends the run or rolls it back, and never spoils what was saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import DEVICES, read_log
from resumable_runs import STEPS, newest_checkpoint, resumable

from charembed import CharEmbedError, train
from charembed.pretrained.model_folder import Pretrained
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.meter import DIVERGED_BITS, DivergedError, Meter


def diverge(monkeypatch: pytest.MonkeyPatch, *, step: int, times: int = 1) -> list[float]:
    """Have a step, and some more after it, give NaN as loss and as weights.

    Returns:
        The learning rates of the steps that were taken, two for each step.
    """
    original = DirectionTrainer.step
    rates: list[float] = []
    remaining = [times]

    def take_step(self: DirectionTrainer, number: int, lr: float) -> StepResult:
        rates.append(lr)
        result = original(self, number, lr)
        if len(rates) >= 2 * step - 1 and remaining[0]:
            remaining[0] -= 1
            with torch.no_grad():
                next(self.lm.parameters()).fill_(float("nan"))
            return StepResult(result.bits_per_character * float("nan"), result.gradient_norm)
        return result

    monkeypatch.setattr(DirectionTrainer, "step", take_step)
    return rates


def test_divergence_ends_the_run_and_keeps_the_models_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, step=60)
    config = resumable(tmp_path)
    message = r"the loss of the \w+ model is nan at step 60: lower optimizer.lr \(it was 0.003\) .* try rollbacks: 3"
    with pytest.raises(CharEmbedError, match=message):
        train(config)
    out = Path(config.output)
    assert json.loads((out / "report.json").read_text())["state"] == "diverged"
    newest = newest_checkpoint(out)
    assert newest.state.step == 59
    assert all(bool(tensor.isfinite().all()) for tensor in newest.tensors.values() if tensor.is_floating_point())
    assert Pretrained.load(out / "last").provenance["characters_seen"] == 44 * 2 * 4 * 16


def test_a_rollback_resumes_from_the_last_checkpoint_with_half_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = diverge(monkeypatch, step=60)
    result = train(resumable(tmp_path, rollbacks=1))
    assert result.report.rollbacks == 1
    assert result.last is not None
    assert result.last.step == STEPS
    (record,) = [record for record in read_log(result.folder) if record["kind"] == "rollback"]
    assert record["step"] == 59
    assert record["lr"] == pytest.approx(0.0015)
    first_time, second_time = rates[2 * 59], rates[2 * 60]
    assert second_time == pytest.approx(0.5 * first_time), "step 60 is not repeated at half the rate"


def test_rollbacks_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverge(monkeypatch, step=60, times=10_000)
    with pytest.raises(CharEmbedError, match=r"is nan .* 2 rollbacks did not help"):
        train(resumable(tmp_path, rollbacks=2))


def results(*bits: float) -> list[dict]:
    """Return the results of steps with these losses."""
    return [{"forward": StepResult(torch.tensor(b), torch.tensor(1.0))} for b in bits]


def test_the_meter_distinguishes_divergence_from_noise() -> None:
    meter = Meter(["forward"], DistributedContext())
    for step, bits in enumerate([[4.0, 3.0], [2.5, 2.3], [3.3, 3.3]], start=1):
        for result in results(*bits):
            meter.add(result)
        means = meter.take(2 * step)
        assert means.bits_per_character["forward"] == pytest.approx(sum(bits) / 2)
    for result in results(3.0, 4.0):
        meter.add(result)
    with pytest.raises(DivergedError, match=r"rose from 2.40 to 3.50 bits per character in steps 7 to 8"):
        meter.take(8)
    assert DIVERGED_BITS == 1.0


@pytest.mark.parametrize(
    ("bits", "norm", "message"),
    [
        (float("inf"), 1.0, "the loss of the forward model is inf at step 13"),
        (1.0, float("nan"), "the gradient norm of the forward model is nan at step 13"),
    ],
)
def test_the_meter_names_the_step(bits: float, norm: float, message: str) -> None:
    meter = Meter(["forward"], DistributedContext())
    for result in results(2.0, 2.0):
        meter.add(result)
    meter.add({"forward": StepResult(torch.tensor(bits), torch.tensor(norm))})
    with pytest.raises(DivergedError, match=message):
        meter.take(13)


@pytest.mark.parametrize("device", DEVICES)
def test_results_before_and_after_a_restart_are_averaged_together(device: str) -> None:
    whole, before, after = (Meter(["forward"], DistributedContext()) for _ in range(3))
    for number, bits in enumerate((2.1, 2.7, 2.4)):
        result = {"forward": StepResult(torch.tensor(bits, device=device), torch.tensor(1.0, device=device))}
        whole.add(result)
        (before if number < 2 else after).add(result)
        if number == 1:
            after.restore(before.pending(2), before.lowest)
    assert len(after) == 3
    assert after.pending(3) == whole.pending(3)
    assert after.take(3) == whole.take(3)
    assert len(after) == 0
