"""The report of training runs: losses, learning rate, gradient norm, throughput, samples, configuration and text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.report.charts import Chart, LineChart, Series
from charembed.report.page import Page, Sample, Section, Table, option_texts
from charembed.training.report import ARROWS, Report, report_rows
from charembed.training.run_folder import load_report
from charembed.training.run_log import LOG
from charembed.util.reading import read_file

_SETTLED = 0.05
"""Share of a run after which its losses count for the range of a chart."""
_MAX_SAMPLES = 6
"""Number of samples shown of each run, spread over the run."""


@dataclass(frozen=True)
class RunData:
    """One run, as its folder records it."""

    name: str
    """Name of the run."""
    report: Report
    """Its report.json."""
    steps: list[dict[str, Any]]
    """The records of training steps in its log."""
    validations: list[dict[str, Any]]
    """The records of validations in its log."""

    @classmethod
    def load(cls, folder: Path, name: str) -> RunData:
        """Read the folder of a run.

        Args:
            folder: the output folder of `charembed train`.
            name: name of the run in the report.

        Raises:
            CharEmbedError: the report or the log is missing or damaged.
        """
        report = load_report(folder)
        records: dict[str, list[dict[str, Any]]] = {"train": [], "valid": []}
        number = 0
        try:
            lines = read_file(folder / LOG).decode().split("\n")
            # The last one is empty, or incomplete while the run writes it.
            for number, line in enumerate(lines[:-1], 1):  # noqa: B007 (used in the error)
                record = json.loads(line)
                records.setdefault(record["kind"], []).append(record)
                _check_record(record)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            where = f", line {number}" if number else ""
            raise CharEmbedError(f"{folder / LOG}{where}, cannot be read: {error}") from error
        return cls(name, report, records["train"], records["valid"])

    @property
    def directions(self) -> list[str]:
        """The directions that are trained, forward first."""
        return [direction for direction in ARROWS if f"bits_per_character_{direction}" in {*self._keys()}]

    def _keys(self) -> list[str]:
        records = self.steps or self.validations
        return list(records[-1]) if records else []


def _check_record(record: dict[str, Any]) -> None:
    """Check that what is drawn of a record is there, and is a number.

    Raises:
        ValueError: it is not.
    """
    needed = {"train": ["characters", "seconds", "lr", "characters_per_second"], "valid": ["characters", "seconds"]}
    losses = ("bits_per_character_", "nats_per_word_", "gradient_norm_")
    drawn = [*needed.get(record["kind"], []), *(name for name in record if name.startswith(losses))]
    for name in drawn:
        value = record.get(name)
        if not isinstance(value, (int, float)) or (name == "characters_per_second" and value <= 0):
            raise ValueError(f"{name} is {value!r:.50}")


def run_page(runs: Sequence[RunData]) -> Page:
    """Return the report of one run, or of several in one."""
    title = f"Training run {runs[0].name}" if len(runs) == 1 else f"{len(runs)} training runs"
    reports = {run.name: run.report for run in runs}
    nats = _losses(runs, "nats_per_word", "Nats per word")
    sections = [
        Section("Results", tables=[_columns(reports, report_rows)]),
        Section(
            "Bits per character",
            "Lower is better. Lines with dots: held-out text; thin lines: the text being trained on.",
            charts=_losses(runs, "bits_per_character", "Bits per character"),
            tables=[_validations(runs)],
        ),
        *([Section("Words", "Loss of the words that the model predicts; lower is better.", nats)] if nats else []),
        Section("Optimizer and speed", charts=_optimizer_charts(runs)),
        Section("Samples", "What the model wrote as training went on.", samples=_samples(runs)),
        Section("Text", tables=_text_tables(runs)),
        Section("Configuration", tables=[_configuration(reports)]),
    ]
    return Page(title, [section for section in sections if section.charts or section.tables or section.samples])


def _losses(runs: Sequence[RunData], name: str, label: str) -> list[Chart]:
    """Return the charts of one loss by characters and by time; none if no run has it."""
    charts: list[Chart] = []
    axes = (
        ("characters", "characters read, each direction", lambda record: record["characters"]),
        ("time", "minutes", lambda record: record["seconds"] / 60),
    )
    for axis, x_label, position in axes:
        series = []
        for color, run in enumerate(runs):
            for direction in run.directions:
                series += _loss_series(run, f"{name}_{direction}", direction, position, color, is_only=len(runs) == 1)
        if series:
            title = f"{label} by {axis}"
            charts.append(LineChart(_slug(title), title, x_label, label.lower(), series, settled=_SETTLED))
    return charts


def _loss_series(
    run: RunData,
    key: str,
    direction: str,
    position: Callable[[dict[str, Any]], float],
    color: int,
    *,
    is_only: bool,
) -> list[Series]:
    """Return the lines of one loss in one direction: of training, and of validations in front of it."""
    label = direction if is_only else f"{run.name}, {direction}"
    color = color if not is_only else int(direction == "backward")
    series = []
    for records, is_validation in ((run.steps, False), (run.validations, True)):
        points = [(position(record), record[key]) for record in records if key in record]
        if points:
            x, y = zip(*points, strict=True)
            series.append(
                Series(
                    label if is_validation or not run.validations else "",
                    x,
                    y,
                    color,
                    is_dashed=direction == "backward",
                    is_faint=not is_validation,
                    has_markers=is_validation,
                )
            )
    return series


def _optimizer_charts(runs: Sequence[RunData]) -> list[Chart]:
    """Return the charts of learning rate, gradient norm and throughput."""
    rate, speed, norms = [], [], []
    for color, run in enumerate(runs):
        if not run.steps:
            continue
        label, characters = run.name if len(runs) > 1 else "", [record["characters"] for record in run.steps]
        rate.append(Series(label, characters, [record["lr"] for record in run.steps], color))
        speed.append(Series(label, *_throughput(run.steps), color))
        for direction in run.directions:
            norm = [record[f"gradient_norm_{direction}"] for record in run.steps]
            name = ", ".join(filter(None, (label, direction)))
            shade = color if len(runs) > 1 else int(direction == "backward")
            norms.append(Series(name, characters, norm, shade, is_dashed=direction == "backward"))
    if not rate:
        return []
    x_label = "characters read, each direction"
    return [
        LineChart("learning-rate", "Learning rate", x_label, "learning rate", rate),
        LineChart("gradient-norm", "Gradient norm", x_label, "norm before clipping", norms, settled=_SETTLED),
        LineChart("throughput", "Throughput", x_label, "characters per second, each direction", speed),
    ]


def _throughput(steps: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the rate between consecutive records, validations excluded, and where each interval ends."""
    # The log has the mean rate since the run began: characters by the seconds spent in training.
    points = [(record["characters"], record["characters"] / record["characters_per_second"]) for record in steps]
    intervals = [(x, (x - before) / (time - start)) for (before, start), (x, time) in pairwise([(0, 0.0), *points])]
    return [x for x, _ in intervals], [rate for _, rate in intervals]


def _validations(runs: Sequence[RunData]) -> Table:
    rows = []
    for run in runs:
        for validation in run.report.validations:
            bits, nats = validation["bits_per_character"], validation.get("nats_per_word", {})
            row = [run.name, f"{validation['step']:,}", f"{validation['characters']:,}"]
            row += [f"{validation['seconds'] / 60:.1f}"]
            row += [f"{bits[direction]:.4f}" if direction in bits else "" for direction in ARROWS]
            row += [f"{nats[direction]:.3f}" if direction in nats else "" for direction in ARROWS]
            rows.append(row)
    header = ["run", "step", "characters", "minutes"]
    header += [
        f"{quantity} {arrow}" for quantity in ("bits per character", "nats per word") for arrow in ARROWS.values()
    ]
    filled = [k for k in range(len(header)) if any(row[k] for row in rows)]
    pick = [[row[k] for k in filled] for row in (header, *rows)]
    return Table(pick[0], pick[1:], "All validations", is_long=True)


def _samples(runs: Sequence[RunData]) -> list[Sample]:
    samples = []
    for run in runs:
        written = [record for record in run.validations if record.get("sample")]
        stride = -(-len(written) // _MAX_SAMPLES) or 1
        for record in written[::-1][::stride][::-1]:  # the last one is among them
            characters = f"after {record['characters']:,} characters"
            samples.append(
                Sample(f"{run.name}, {characters}" if len(runs) > 1 else characters, record["sample"].strip())
            )
    return samples


def _text_tables(runs: Sequence[RunData]) -> list[Table]:
    def rows(report: Report) -> dict[str, str]:
        corpus = report.corpus
        numbers = ("documents", "characters", "validation_characters", "vocabulary")
        sizes = {name.replace("_", " "): "unknown" if corpus[name] is None else f"{corpus[name]:,}" for name in numbers}
        return sizes | {"unknown characters": f"{corpus['unknown_rate']:.4%}", "SHA-256": corpus["sha256"]}

    tables = [_columns({run.name: run.report for run in runs}, rows)]
    shown = set()
    for run in runs:
        corpus = run.report.corpus
        # Runs on the same text have the same characters; runs of earlier versions have not counted them.
        if corpus["sha256"] in shown or not corpus.get("frequent_characters"):
            continue
        shown.add(corpus["sha256"])
        total = corpus["counted_characters"]
        cells = [
            [_visible(character), f"U+{ord(character):04X}", f"{count:,}", f"{count / total:.3%}"]
            for character, count in corpus["frequent_characters"]
        ]
        title = f"The {len(cells)} most frequent characters"
        title += f" of {run.name}" if len(runs) > 1 else ""
        tables.append(Table(["character", "code point", "count", "share"], cells, title, is_long=True))
    return tables


def _visible(character: str) -> str:
    """Return a character, or the name of one that cannot be seen."""
    names = {" ": "space", "\n": "newline", "\t": "tab", "\N{NO-BREAK SPACE}": "no-break space"}
    return names.get(character, character)


def _configuration(reports: Mapping[str, Report]) -> Table:
    return _columns(reports, lambda report: option_texts(report.config) | report.versions, "All options and versions")


def _columns(
    reports: Mapping[str, Report], properties: Callable[[Report], dict[str, str]], long_title: str = ""
) -> Table:
    """Return a table with one column per run and one row per property.

    Args:
        reports: the reports by the names of their runs.
        properties: returns the properties of a report by their names.
        long_title: title of a table that is shown only on demand; empty for a short one.
    """
    columns = [properties(report) for report in reports.values()]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return Table(["", *reports], rows, long_title, is_long=bool(long_title))


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")
