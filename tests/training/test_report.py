"""The forecast, the log and the report of a run."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import EXCERPT, read_log, tiny_config

from charembed import CharEmbedError, CharLMConfig, train
from charembed.cli.main import main
from charembed.text.corpus import CorpusConfig
from charembed.training.dry_run import DryRunLimits, _peak_memory, dry_run
from charembed.training.report import Report, table
from charembed.training.result import TrainResult
from charembed.training.schedule import BudgetConfig


def test_the_report_agrees_with_the_log(run: TrainResult) -> None:
    report = Report.load(run.folder)
    assert report == run.report
    assert report.state == "finished"
    assert report.steps == 200
    assert report.characters == 200 * 16 * 32
    records = [record for record in read_log(run.folder) if record["kind"] == "valid"]
    assert [v["step"] for v in report.validations] == [record["step"] for record in records]
    for validation, record in zip(report.validations, records, strict=True):
        for direction, bits in validation["bits_per_character"].items():
            assert bits == record[f"bits_per_character_{direction}"]
        assert len(record["sample"]) == 200
        assert validation["seconds"] == record["seconds"]
    assert report.best is not None
    means = [sum(v["bits_per_character"].values()) / 2 for v in report.validations]
    assert report.best == report.validations[means.index(min(means))]
    assert 0 < report.characters / report.characters_per_second < report.seconds
    assert report.corpus["documents"] == 69
    assert report.config["model"]["hidden_size"] == 48
    assert report.config["budget"]["steps"] == 200


def test_the_log_has_rate_and_gradient_norm(run: TrainResult) -> None:
    trained = [record for record in read_log(run.folder) if record["kind"] == "train"]
    assert trained
    for record in trained:
        for name in ("gradient_norm_forward", "gradient_norm_backward", "characters_per_second", "lr"):
            assert record[name] > 0, name
        assert record["characters"] == record["step"] * 16 * 32


def test_runs_side_by_side(run: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = train(tiny_config(tmp_path, direction="backward"))
    assert main(["report", str(run.folder), str(other.folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == table({str(run.folder): run.report, str(other.folder): other.report}).strip()
    assert re.search(r"steps +200 +6\n", printed)
    assert re.search(r"bits per character, last +→ \d\.\d{4} ← \d\.\d{4} +← \d\.\d{4}\n", printed)


def test_a_folder_without_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert (
        "has no report.json: it is not the folder of a run, or the run has not been validated yet"
        in capsys.readouterr().err
    )
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.strip().endswith(f"{tmp_path / 'absent'} does not exist")
    (tmp_path / "report.json").write_text('{"steps": 3}')
    with pytest.raises(CharEmbedError, match=r"report.json cannot be read: "):
        Report.load(tmp_path)


def test_a_dry_run_agrees_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = DryRunLimits(warm_up_seconds=0.1, measured_seconds=1.0)
    monkeypatch.setattr("charembed.training.dry_run.dry_run", partial(dry_run, limits=short))
    arguments = ["train", "--data.train", str(EXCERPT), "--output", str(tmp_path / "out"), "--model.hidden_size", "48"]
    arguments += ["--words", "none"]
    assert main([*arguments, "--dry-run", "--budget.epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [], "the dry run has written files"
    assert main([*arguments, "--budget.steps", "10"]) == 0
    corpus = Report.load(tmp_path / "out").corpus
    weights = Report.load(tmp_path / "out").weights
    assert f"{corpus['characters']:,} characters to train on, {corpus['documents']:,} documents" in printed
    assert f"vocabulary       {corpus['vocabulary']:,} characters, {corpus['unknown_rate']:.4%}" in printed
    assert f"weights          {weights:,}" in printed
    assert "2.00 times the text" in printed
    assert "word vectors     none\n" in printed


def test_peak_memory_is_in_bytes_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    cpu = torch.device("cpu")
    kibibytes = pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rel=0.01)
    assert _peak_memory(cpu) / 1024 == kibibytes
    monkeypatch.setattr(sys, "platform", "darwin")  # where the system counts bytes
    assert _peak_memory(cpu) == kibibytes
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert _peak_memory(cpu) is None


def test_a_forecast_keeps_to_the_budget(tmp_path: Path) -> None:
    limits = DryRunLimits(warm_up_seconds=0.0, measured_seconds=0.3)
    config = tiny_config(
        tmp_path,
        data=CorpusConfig(train=str(EXCERPT), cache=str(tmp_path / "cache")),
        model=CharLMConfig(hidden_size=8),
        budget=BudgetConfig(minutes=60.0),
    )
    hour = dry_run(config, limits)
    assert hour.hours == pytest.approx(1.0, rel=0.1)
    assert hour.characters_seen == pytest.approx(3600 * hour.characters_per_second, rel=0.1)
    assert hour.memory > 50 * 2**20
    config.budget = BudgetConfig(minutes=60.0, steps=1000)
    thousand = dry_run(config, limits)
    assert thousand.characters_seen == pytest.approx(1000 * 4 * 16)
    assert thousand.hours < 0.5
    assert json.loads(next((tmp_path / "cache").glob("*/facts.json")).read_text())["documents"] == hour.documents
