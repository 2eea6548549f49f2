"""The report of a tagger: its learning curve, scores by type, confusions and worst errors."""

from __future__ import annotations

from collections.abc import Iterator

from charembed.report.charts import BarChart, Chart, ConfusionChart, LineChart, Series
from charembed.report.page import Page, Piece, Section, Table, option_texts
from charembed.tagging.labelled_text import LayerKind
from charembed.tagging.metrics import LayerScores
from charembed.tagging.tag_schemes import EntitySpan, entity_spans
from charembed.tagging.training_report import SplitReport, TaggerReport, TaggingError

_MAX_LABELS = 40
"""Number of tags that are drawn, at most: the most frequent ones."""
_MAX_ERRORS = 25
"""Number of sentences with errors that are shown of each split."""
_NOTHING = "nothing"


def tagger_page(report: TaggerReport, name: str) -> Page:
    """Return the report of a tagger.

    Args:
        report: the report of its training.
        name: its name.
    """
    sections = [Section("Training", _curve_note(report), charts=_curves(report))]
    for split, scored in (("dev", report.dev), ("test", report.test)):
        for layer, scores in scored.scores.items():
            sections.append(_scores_section(split, layer, scores))
        sections.append(_errors_section(split, scored))
    settings = [[key, value] for key, value in option_texts(report.settings).items()]
    settings += [[f"sentences, {split}", f"{count:,}"] for split, count in report.sentences.items()]
    sections.append(
        Section(
            "Configuration",
            " ".join(report.notes),
            tables=[Table(["option", "value"], settings, "All options", is_long=True)],
        )
    )
    return Page(f"Tagger {name}", sections)


def _curve_note(report: TaggerReport) -> str:
    best = report.curve[report.best_epoch - 1]
    return f"Epoch {best.epoch} of {len(report.curve)} is kept, with {best.dev:.2f} on dev."


def _curves(report: TaggerReport) -> list[Chart]:
    metrics = {scores.metric for scores in report.dev.scores.values()}
    metric = metrics.pop() if len(metrics) == 1 else "score"  # of several layers, the mean of theirs
    epochs = [epoch.epoch for epoch in report.curve]
    best = report.curve[report.best_epoch - 1]
    dev = [
        Series("", epochs, [epoch.dev for epoch in report.curve], has_markers=True),
        Series("kept", [best.epoch], [best.dev], 1, has_markers=True),
    ]
    loss = Series("", epochs, [epoch.loss for epoch in report.curve], has_markers=True)
    title = f"{metric[0].upper()}{metric[1:]} on dev by epoch"
    return [
        LineChart("score-by-epoch", title, "epoch", f"{metric}, per cent", dev),
        LineChart("loss-by-epoch", "Training loss by epoch", "epoch", "nats per sentence", [loss]),
    ]


def _scores_section(split: str, layer: str, scores: LayerScores) -> Section:
    labels = sorted(scores.by_type, key=lambda label: -scores.by_type[label].support)[:_MAX_LABELS]
    bars = {label: scores.by_type[label].f1 for label in labels}
    slug = "".join(character if character.isalnum() else "-" for character in f"{split}-{layer}")
    # Entities are confused with O where they are missed or made up.
    confused = dict.fromkeys([*labels, *(["O"] if scores.kind == "entities" else [])])
    counts = [[scores.confusion.get(true, {}).get(guess, 0) for guess in confused] for true in confused]
    rows = [
        [label, f"{one.precision:.2f}", f"{one.recall:.2f}", f"{one.f1:.2f}", f"{one.support:,}"]
        for label, one in scores.by_type.items()
    ]
    charts: list[Chart] = [
        BarChart(f"f1-{slug}", f"F1 by type, {layer} on {split}", "F1, per cent", bars, 100.0),
        ConfusionChart(f"confusion-{slug}", f"Confusion, {layer} on {split}", list(confused), counts),
    ]
    return Section(
        f"{layer} on {split}",
        f"{scores.metric[0].upper()}{scores.metric[1:]} {scores.score:.2f}",
        charts=charts if labels else [],  # a text without entities has nothing to draw
        tables=[Table(["type", "precision", "recall", "F1", "number"], rows, "All scores", is_long=True)],
    )


def _errors_section(split: str, scored: SplitReport) -> Section:
    errors = sorted(scored.errors, key=TaggingError.wrong_words, reverse=True)
    note = "The sentences with most wrong tags." if errors else "There are none."
    pieces = [list(_pieces(error, scored.scores[error.layer].kind)) for error in errors[:_MAX_ERRORS]]
    return Section(f"Worst errors on {split}", note, sentences=pieces)


def _pieces(error: TaggingError, kind: LayerKind) -> Iterator[Piece]:
    """Yield the pieces of a sentence, with what is wrong in those that are."""
    position = 0
    for start, end, note in _wrong_spans(error, kind):
        if position < start:
            yield Piece(" ".join(error.words[position:start]))
        yield Piece(" ".join(error.words[start:end]), note)
        position = end
    if position < len(error.words):
        yield Piece(" ".join(error.words[position:]))


def _wrong_spans(error: TaggingError, kind: LayerKind) -> list[tuple[int, int, str]]:
    """Return first word, one past the last word, and what is wrong, for each place with an error."""
    if kind == "tags":
        pairs = enumerate(zip(error.expected, error.predicted, strict=True))
        return [(k, k + 1, f"true {true}, predicted {guess}") for k, (true, guess) in pairs if true != guess]
    true_spans, guesses = entity_spans(error.expected), entity_spans(error.predicted)
    wrong = sorted(set(true_spans) ^ set(guesses))
    # True and predicted entities that overlap are one error.
    groups: list[list[EntitySpan]] = []
    for span in wrong:
        if groups and span[0] < max(end for _, end, _ in groups[-1]):
            groups[-1].append(span)
        else:
            groups.append([span])
    places = []
    for group in groups:
        extent = min(start for start, _, _ in group), max(end for _, end, _ in group)
        sides = [_describe(error, [span for span in group if span in side], extent) for side in (true_spans, guesses)]
        places.append((*extent, f"true {sides[0]}, predicted {sides[1]}"))
    return places


def _describe(error: TaggingError, spans: list[EntitySpan], extent: tuple[int, int]) -> str:
    """Return the kinds of some entities, with their words unless they are those of the whole piece."""
    described = [
        kind if (start, end) == extent else f"{kind} “{' '.join(error.words[start:end])}”" for start, end, kind in spans
    ]
    return " and ".join(described) or _NOTHING
