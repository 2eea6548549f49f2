"""The report of training runs: what it draws, and that it is one safe file."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from filelock import FileLock
from helpers import DATA, read_log

pytest.importorskip("matplotlib")

from charembed import CharEmbedError
from charembed.cli.main import main
from charembed.report import drawing, writing
from charembed.report.charts import LineChart
from charembed.report.page import Page
from charembed.report.run_page import RunData, run_page
from charembed.training.report import Report
from charembed.training.run_log import LOG
from charembed.training.trainer import TrainResult
from charembed.util.files import RUN_LOCK


def charts_of(*folders: Path) -> dict[str, LineChart]:
    page = writing.report_page(folders)
    assert all(isinstance(chart, LineChart) for chart in page.charts)
    return {chart.name: chart for chart in page.charts}


def loads_from_elsewhere(html: str) -> list[str]:
    return re.findall(r"""<(?:script|img|link|iframe|image|use)\b[^>]*(?:src|href)=["'](?!#|data:)[^"']*""", html)


@pytest.fixture
def copied(run: TrainResult, tmp_path: Path) -> Path:
    return shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("text", "checkpoints", "best"))


def test_charts_have_the_numbers_of_the_log(run: TrainResult) -> None:
    charts, log = charts_of(run.folder), read_log(run.folder)
    steps, validations = ([record for record in log if record["kind"] == kind] for kind in ("train", "valid"))
    for axis, position in (("characters", "characters"), ("time", "seconds")):
        series = charts[f"bits-per-character-by-{axis}"].series
        trained, scored, *backward = series
        scale = 60 if axis == "time" else 1
        assert list(scored.x) == [record[position] / scale for record in validations]
        assert list(scored.y) == [record["bits_per_character_forward"] for record in validations]
        assert list(trained.y) == [record["bits_per_character_forward"] for record in steps]
        assert [one.is_dashed for one in backward] == [True, True]
    assert list(charts["learning-rate"].series[0].y) == [record["lr"] for record in steps]
    assert list(charts["gradient-norm"].series[1].y) == [record["gradient_norm_backward"] for record in steps]
    assert "nats-per-word-by-time" not in charts, "the run predicts no words"


def test_throughput_is_that_of_each_interval(copied: Path) -> None:
    # 100 characters in 2 s, then 300 in 3 s, so 80 a second on average.
    records = [(100, 50.0), (400, 80.0)]
    lines = [
        {"kind": "train", "step": k, "seconds": 9.0, "characters": read, "characters_per_second": rate, "lr": 0.1}
        | {"bits_per_character_forward": 2.0, "gradient_norm_forward": 1.0}
        for k, (read, rate) in enumerate(records)
    ]
    # The run is writing the last line.
    (copied / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr')
    (rates,) = charts_of(copied)["throughput"].series
    assert list(rates.y) == pytest.approx([50.0, 100.0])
    assert list(rates.x) == [100, 400]


def test_the_page_loads_nothing_and_shows_everything(run: TrainResult) -> None:
    html = writing.report_page([run.folder]).html()
    assert loads_from_elsewhere(html) == []
    assert loads_from_elsewhere('<script src="a.js">')
    assert loads_from_elsewhere("<img src='https://a/b.png'>")
    assert 'http-equiv="refresh"' not in html
    for validation in run.report.validations:
        assert f"{validation['bits_per_character']['backward']:.4f}" in html
    for text in ("model.hidden_size", run.report.corpus["sha256"], "U+0065", ">space<"):
        assert text in html, text
    svgs = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    assert len(svgs) == 5
    for svg in svgs:
        ElementTree.fromstring(svg)
        assert "var(--ink)" in svg
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "two elements have the same id"


def test_text_of_a_run_stays_text(copied: Path) -> None:
    hostile = "<script>alert('run')</script>"
    log = read_log(copied)
    for record in log:
        if record["kind"] == "valid":
            record["sample"] = hostile + "\ud800\x1b[31m\u202e"
    (copied / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    page = run_page([RunData.load(copied, hostile + " $x^2$"), RunData.load(copied, "other")])
    assert len(page.charts) == 5
    sections = [dataclasses.replace(section, charts=section.charts[:1]) for section in page.sections[:2]]
    html = Page(page.title, [*sections, *page.sections[3:]]).html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&#39;run&#39;)&lt;/script&gt;") > 4
    assert "&lt;script&gt;alert('run')&lt;/script&gt; $x^2$, forward" in html, "the legend"
    html.encode()
    assert "\\u001b[31m\\u202e" in html
    assert not {"\x1b", "\u202e"} & set(html)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": None}, "lr is None"),
        ({"characters": "many"}, "characters is 'many'"),
        ({"characters_per_second": 0}, "characters_per_second is 0"),
        ({"bits_per_character_forward": []}, r"bits_per_character_forward is \[\]"),
    ],
    ids=str,
)
def test_a_damaged_log_is_reported(change: dict, message: str, copied: Path) -> None:
    records = read_log(copied)
    damaged = next(number for number, record in enumerate(records) if record["kind"] == "train")
    records[damaged] |= change
    (copied / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(CharEmbedError, match=rf"log\.jsonl, line {damaged + 1}, cannot be read: {message}"):
        RunData.load(copied, "run")


def test_runs_in_one_page(run: TrainResult, copied: Path) -> None:
    charts = charts_of(run.folder, copied, DATA / "run-0.1.0" / "out")
    named = [(one.label, one.color) for one in charts["bits-per-character-by-time"].series if one.label]
    names = [f"{run.folder.parent.name}/out", f"{copied.parent.name}/copy", "run-0.1.0/out"]
    expected = [(f"{name}, {way}", k) for k, name in enumerate(names) for way in ("forward", "backward")]
    assert named == expected


def test_counts_of_characters_are_those_of_the_text(run: TrainResult) -> None:
    corpus = run.report.corpus
    ids = next((run.folder / "text").glob("*/tokenizer.json"))
    counted = dict(corpus["frequent_characters"])
    assert counted[" "] == max(counted.values())
    assert ids.exists()
    assert corpus["counted_characters"] >= corpus["characters"] + corpus["validation_characters"]


def test_the_command_writes_pages_and_pictures(
    run: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, figures = tmp_path / "report.html", tmp_path / "figures"
    options = ["--html", str(page), "--svg", str(figures), "--png", str(figures)]
    assert main(["report", str(run.folder), *options]) == 0
    assert "Bits per character" in page.read_text(encoding="utf-8")
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == sorted(map(str, [page, *figures.iterdir()]))
    assert {path.suffix for path in figures.iterdir()} == {".svg", ".png"}
    for path in figures.glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        ElementTree.fromstring(svg)
        assert "var(" not in svg, "only a page defines these colors"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures.glob("*.png"))
    assert main(["report", str(run.folder), "--watch"]) == 2
    assert "--watch renews a page: name its file with --html" in capsys.readouterr().err


def test_a_page_follows_its_run(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, seen = tmp_path / "live.html", []
    report = Report.load(copied)
    report.state = "running"
    report.save(copied / "report.json")

    def sleep(seconds: float) -> None:
        """The run ends while `watch` waits."""
        seen.append((seconds, page.read_text(encoding="utf-8")))
        report.state = "finished"
        report.save(copied / "report.json")

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("charembed.report.page.page_svg", lambda _: "")  # other tests draw
    with FileLock(copied / RUN_LOCK):
        writing.watch([copied], page, seconds=3)
    [(seconds, live)] = seen
    assert seconds == 3
    assert '<meta http-equiv="refresh" content="3">' in live
    assert "<td>running</td>" in live
    assert 'http-equiv="refresh"' not in page.read_text(encoding="utf-8")


def test_without_matplotlib_training_ends_with_advice(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("INFO"):
        writing.write_final_report(copied)
    assert not (copied / "report.html").exists()
    assert "pip install 'charembed[report]'" in caplog.text


def test_the_same_chart_has_the_same_bytes(run: TrainResult) -> None:
    chart = charts_of(run.folder)["learning-rate"]
    assert drawing.print_svg(chart) == drawing.print_svg(chart)
