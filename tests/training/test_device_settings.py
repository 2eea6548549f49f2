"""Lanes, learning rate and precision that a configuration leaves open: chosen for the device, recorded, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import assert_same_weights, tiny_config, weights_of

from charembed import CharEmbedError, CharLMConfig, TrainConfig, train
from charembed.training import precision as training_precision
from charembed.training.device_settings import describe_settings, resolve_settings
from charembed.training.dry_run import DryRunLimits, dry_run
from charembed.training.run_folder import load_report
from charembed.training.schedule import BudgetConfig, OptimizerConfig

CHOSEN = {"batch_size": None, "precision": "auto"}


def config_for(folder: Path, device: str, **changes: object) -> TrainConfig:
    """Return a configuration that leaves the settings open, for a device that this machine may lack."""
    config = tiny_config(folder, **CHOSEN | changes)
    config.device = device
    return config


@pytest.fixture
def bfloat16_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that multiplies bfloat16 matrices in hardware."""
    monkeypatch.setattr(training_precision, "has_bfloat16_units", lambda _: True)


@pytest.mark.parametrize(
    ("units", "cell", "hidden_size", "device", "expected"),
    [
        (True, "lstm", 512, "cpu", "bfloat16"),
        (False, "lstm", 512, "cpu", "float32"),
        (True, "gru", 512, "cpu", "float32"),
        (True, "lstm", 1024, "cpu", "float32"),
        (True, "lstm", 1024, "cuda", "bfloat16"),
        (False, "lstm", 1024, "cuda", "float32"),
        (True, "gru", 1024, "cuda", "float32"),
    ],
)
def test_auto_chooses_the_faster_precision(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    units: bool,
    cell: str,
    hidden_size: int,
    device: str,
    expected: str,
) -> None:
    monkeypatch.setattr(training_precision, "has_bfloat16_units", lambda _: units)
    config = config_for(tmp_path, device, model=CharLMConfig(cell=cell, hidden_size=hidden_size))
    assert resolve_settings(config, 10**6).step_options.precision == expected


@pytest.mark.parametrize(
    ("characters", "changes", "world_size", "expected"),
    [
        (10**9, {}, 1, 512),
        (512 * 64 * 64, {}, 1, 512),
        (512 * 64 * 64 - 1, {}, 1, 256),
        (512 * 64 * 64, {"seq_len": 128}, 1, 256),
        (512 * 64 * 64, {"accumulation_steps": 4}, 1, 128),
        (512 * 64 * 64, {}, 2, 256),
        (100, {}, 1, 16),
    ],
)
@pytest.mark.usefixtures("bfloat16_units")
def test_a_gpu_gets_many_lanes_if_the_text_is_long_enough(
    tmp_path: Path, characters: int, changes: dict, world_size: int, expected: int
) -> None:
    config = config_for(tmp_path, "cuda", **{"seq_len": 64} | changes)
    assert resolve_settings(config, characters, world_size).batch_size == expected
    config.device = "cpu"
    assert resolve_settings(config, characters, world_size).batch_size == 16
    config.batch_size = 7
    assert resolve_settings(config, characters, world_size).batch_size == 7


@pytest.mark.usefixtures("bfloat16_units")
def test_what_was_chosen_is_said(tmp_path: Path) -> None:
    config = config_for(tmp_path, "cuda", batch_size=None)
    resolved = resolve_settings(config, 10**9)
    assert describe_settings(config, resolved) == (
        "batch_size 512 (chosen for cuda), optimizer.lr 0.003 (chosen for cuda), precision bfloat16 (chosen for cuda)"
    )
    assert "batch_size 512 (as before)" in describe_settings(config, resolved, resumes=True)
    assert config.batch_size is config.optimizer.lr is None, "the configuration of the caller was changed"


def test_a_run_records_what_was_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = train(tiny_config(tmp_path, **CHOSEN)).folder
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert (written["batch_size"], written["optimizer"]["lr"]) == (16, 0.003)
    report = load_report(folder)
    assert written["precision"] == report.precision == report.config["precision"]
    assert report.config["batch_size"] == 16
    said = (
        f"steps with batch_size 16 (chosen for cpu), optimizer.lr 0.003 (chosen for cpu), precision {report.precision} "
    )
    assert said in caplog.text


def test_a_dry_run_says_what_would_be_chosen(tmp_path: Path) -> None:
    forecast = str(dry_run(tiny_config(tmp_path, batch_size=None), DryRunLimits(0.0, 0.0, 100)))
    said = "batch_size 16 (chosen for cpu), optimizer.lr 0.003 (chosen for cpu), precision float32\n"
    assert f"\nsteps            {said}" in forecast


def test_a_resumed_run_keeps_what_it_was_started_with(tmp_path: Path) -> None:
    """The same weights whether the settings of the first run are given again or left open."""
    given: dict = {"batch_size": 4, "optimizer": OptimizerConfig(lr=0.02), "precision": "float32"}
    weights = []
    for name, settings in (("given", given), ("open", CHOSEN)):
        output = str(tmp_path / name)
        train(tiny_config(tmp_path, output=output, **given, budget=BudgetConfig(steps=2)))
        resumed = train(tiny_config(tmp_path, output=output, **settings, budget=BudgetConfig(steps=4)))
        weights.append(weights_of(resumed.folder))
        written = yaml.safe_load((resumed.folder / "config.yaml").read_text())
        assert (written["batch_size"], written["optimizer"]["lr"], written["precision"]) == (4, 0.02, "float32")
    assert_same_weights(weights[1], weights[0])
    with pytest.raises(CharEmbedError, match=r"another configuration \(optimizer.lr 0.02 → 0.03\)"):
        train(tiny_config(tmp_path, output=output, **CHOSEN, optimizer=OptimizerConfig(lr=0.03)))
