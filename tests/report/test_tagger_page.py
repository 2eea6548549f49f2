"""The report of a tagger: what is marked as wrong, and what is drawn."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from charembed import CharEmbedError
from charembed.cli.main import main
from charembed.report.charts import BarChart, ConfusionChart, LineChart, ScatterChart, Series
from charembed.report.drawing import page_svg, print_png, print_svg
from charembed.report.tagger_page import tagger_page
from charembed.report.writing import report_page
from charembed.tagging.fitting import Epoch
from charembed.tagging.labelled_text import LabelledSentence, LayerKind
from charembed.tagging.metrics import score_layer
from charembed.tagging.training_report import MAX_ERRORS, SplitReport, TaggerReport

WORDS = ["Ann", "Lee", "saw", "New", "York", "<b>Times</b>"]
TRUE = ["B-PER", "I-PER", "O", "B-ORG", "I-ORG", "I-ORG"]


def split(kind: LayerKind, *predicted: list[str], true: list[str] = TRUE) -> SplitReport:
    sentences = [LabelledSentence(WORDS, {"ner": true}) for _ in predicted]
    scores = score_layer(kind, list(predicted), [true] * len(predicted))
    return SplitReport.of(sentences, [{"ner": tags} for tags in predicted], {"ner": scores})


def report(dev: SplitReport) -> TaggerReport:
    curve = [Epoch(1, 9.0, 40.0, 1.0), Epoch(2, 5.0, 60.0, 1.0), Epoch(3, 4.0, 55.0, 1.0)]
    return TaggerReport({"seed": 1}, {"train": 5}, ["read as BIO"], curve, 2, dev, split("entities", TRUE))


def notes(predicted: list[str], kind: LayerKind = "entities", true: list[str] = TRUE) -> list[tuple[str, str]]:
    page = tagger_page(report(split(kind, predicted, true=true)), "t")
    sections = {section.title: section for section in page.sections}
    return [(piece.text, piece.note) for pieces in sections["Worst errors on dev"].sentences for piece in pieces]


def test_wrong_spans_are_marked() -> None:
    assert notes(["B-LOC", "I-LOC", "O", "B-ORG", "I-ORG", "I-ORG"]) == [
        ("Ann Lee", "true PER, predicted LOC"),
        ("saw New York <b>Times</b>", ""),
    ]
    assert notes(["O", "O", "B-PER", "B-LOC", "I-LOC", "O"]) == [
        ("Ann Lee", "true PER, predicted nothing"),
        ("saw", "true nothing, predicted PER"),
        ("New York <b>Times</b>", "true ORG, predicted LOC “New York”"),
    ]
    assert notes(["B-PER", "B-PER", "O", "B-ORG", "I-ORG", "I-ORG"])[0] == (
        "Ann Lee",
        "true PER, predicted PER “Ann” and PER “Lee”",
    )
    tags = ["NOUN"] * 6
    assert notes(["NOUN", "VERB", *tags[2:]], "tags", tags)[:2] == [("Ann", ""), ("Lee", "true NOUN, predicted VERB")]


def test_the_worst_sentences_are_kept_and_come_first() -> None:
    slightly, badly = [*TRUE[:3], "B-LOC", "I-LOC", "I-LOC"], ["O"] * 6
    kept = split("entities", *[slightly] * MAX_ERRORS, badly).errors
    assert len(kept) == MAX_ERRORS
    assert [error.predicted for error in kept[:2]] == [badly, slightly]


def test_scores_and_confusions_are_drawn() -> None:
    page = tagger_page(report(split("entities", ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC"])), "t")
    charts = {chart.name: chart for chart in page.charts}
    bars, confusion = charts["f1-dev-ner"], charts["confusion-dev-ner"]
    assert isinstance(bars, BarChart)
    assert isinstance(confusion, ConfusionChart)
    assert bars.bars == {"ORG": 0.0, "PER": 100.0, "LOC": 0.0}
    assert confusion.labels == ["ORG", "PER", "LOC", "O"]
    assert confusion.counts == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    html = page.html()
    assert "Epoch 2 of 3 is kept, with 60.00 on dev." in html
    assert "&lt;b&gt;Times" in html
    assert "<b>Times" not in html


@pytest.mark.parametrize("label", ["W" * 200, "漢" * 200, "red\x1b[31m\nline", "\ud800"])
def test_odd_labels_are_drawn_without_warnings(label: str) -> None:
    labels = [label + str(number) for number in range(3)]
    lines = [Series(label, [1, 2], [1, 2]) for label in labels]
    charts = [
        BarChart("bars", label, "F1", dict.fromkeys(labels, 50.0), 100.0),
        ConfusionChart("confusion", label, labels, [[1, 2, 3]] * 3),
        LineChart("lines", label, "x", "y", lines),
        ScatterChart("map", {label: [(0, 0), (1, 1)] for label in labels}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chart in charts:
            svg = page_svg(chart)
            ElementTree.fromstring(svg)
            assert label not in svg
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the picture lacks it, which its reader should know
        for chart in charts:
            ElementTree.fromstring(print_svg(chart))
            print_png(chart)


def test_a_report_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = report(split("entities", ["O"] * 6))
    for name in ("tagger.json", "report.json"):
        (tmp_path / name).write_bytes(written.to_json())
    assert TaggerReport.load(tmp_path) == dataclasses.replace(written)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == written.table() + "\n"
    with pytest.raises(CharEmbedError, match="a page shows several runs, or one tagger"):
        report_page([tmp_path, tmp_path])
    (tmp_path / "report.json").unlink()
    assert main(["report", str(tmp_path)]) == 2
    assert "has no report.json, which charembed tag train writes" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_report_that_is_no_regular_file_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    with pytest.raises(CharEmbedError, match=r"report.json is not a regular file"):
        TaggerReport.load(tmp_path)
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.json").write_bytes(b" " * 5_000_000)
    with pytest.raises(CharEmbedError, match=r"report.json has 5,000,000 bytes, expected at most"):
        TaggerReport.load(tmp_path)
