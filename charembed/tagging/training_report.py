"""The report of a tagger's training run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from charembed.errors import CharEmbedError
from charembed.tagging.fitting import Epoch
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.metrics import LayerScores, TypeScores
from charembed.tagging.tagger_folder import REPORT
from charembed.util.reading import MAX_JSON_BYTES, parse_json, read_file

MAX_ERRORS = 100
"""Number of sentences with wrong tags in a report."""


@dataclass(frozen=True)
class TaggingError:
    """A sentence with a wrong tag."""

    layer: str
    """The layer of the tags."""
    words: list[str]
    """The words."""
    expected: list[str]
    """The true tags."""
    predicted: list[str]
    """The tagger's."""

    def wrong_words(self) -> int:
        """Return the number of words with a wrong tag."""
        return sum(true != guess for true, guess in zip(self.expected, self.predicted, strict=True))


@dataclass(frozen=True)
class SplitReport:
    """Scores on one split."""

    scores: dict[str, LayerScores]
    """Scores by layer."""
    errors: list[TaggingError]
    """The sentences with most wrong tags."""

    @classmethod
    def of(
        cls,
        sentences: Sequence[LabelledSentence],
        predicted: Sequence[dict[str, list[str]]],
        scores: dict[str, LayerScores],
    ) -> SplitReport:
        """Collect the scores and errors of a split.

        Args:
            sentences: the sentences with their true tags.
            predicted: predicted tags of each sentence, by layer.
            scores: scores by layer.
        """
        errors = [
            TaggingError(layer, sentence.words, sentence.tags[layer], tags[layer])
            for layer in scores
            for sentence, tags in zip(sentences, predicted, strict=True)
            if sentence.tags[layer] != tags[layer]
        ]
        errors.sort(key=TaggingError.wrong_words, reverse=True)  # equally bad ones keep the order of the file
        return cls(scores, errors[:MAX_ERRORS])

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SplitReport:
        """Return the split of which `dataclasses.asdict` made some fields."""
        scores = {}
        for name, layer in fields["scores"].items():
            by_type = {label: TypeScores(**one) for label, one in layer["by_type"].items()}
            scores[name] = LayerScores(**layer | {"by_type": by_type})
        return cls(scores, [TaggingError(**error) for error in fields["errors"]])


@dataclass(frozen=True)
class TaggerReport:
    """Everything that a training run says about a tagger."""

    settings: dict[str, Any]
    """The options of the run."""
    sentences: dict[str, int]
    """Number of sentences of each split."""
    notes: list[str]
    """How the files were read."""
    curve: list[Epoch]
    """The learning curve."""
    best_epoch: int
    """Number of the epoch whose weights are kept."""
    dev: SplitReport
    """Scores on dev, which chose the epoch, and sentences with errors."""
    test: SplitReport
    """Scores on test, and sentences with errors."""

    def to_json(self) -> bytes:
        """Return the content of report.json."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")

    @classmethod
    def load(cls, folder: Path) -> TaggerReport:
        """Read the report in the folder of a tagger.

        Raises:
            CharEmbedError: there is no report, or it is damaged.
        """
        path = folder / REPORT
        try:
            fields = parse_json(read_file(path, MAX_JSON_BYTES))
            splits = {split: SplitReport.from_json(fields[split]) for split in ("dev", "test")}
            return cls(**fields | {"curve": [Epoch(**epoch) for epoch in fields["curve"]]} | splits)
        except FileNotFoundError as error:
            raise CharEmbedError(
                f"{folder} has no {REPORT}, which charembed tag train writes: it may have been saved or downloaded"
                " without one"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CharEmbedError(f"{path} cannot be read: {error}") from error

    def card_scores(self) -> dict[str, dict[str, list[float]]]:
        """Return the scores on test for the card: precision, recall, F1 and number of each label, by layer."""
        return {
            f"{name}, test sentences": {
                label: [round(one.precision, 2), round(one.recall, 2), round(one.f1, 2), one.support]
                for label, one in scores.by_type.items()
            }
            | {"all": _total(scores)}
            for name, scores in self.test.scores.items()
        }

    def table(self) -> str:
        """Return the scores on dev and test for a terminal."""
        return "\n\n".join(
            scores_table(f"{name} on {split}", scores)
            for split, report in (("dev", self.dev), ("test", self.test))
            for name, scores in report.scores.items()
        )


def _total(scores: LayerScores) -> list[float]:
    """Return precision, recall and F1 over all labels, and the number of true ones; of other tags, accuracy for all."""
    support = sum(one.support for one in scores.by_type.values())
    rates = (scores.precision, scores.recall, scores.score)
    return [*(round(scores.score if rate is None else rate, 2) for rate in rates), support]


def scores_table(title: str, scores: LayerScores) -> str:
    """Return the scores of a layer as a table, by label and in total.

    Args:
        title: what was scored.
        scores: the scores.
    """
    rows: list[list[Any]] = [
        [label, one.precision, one.recall, one.f1, one.support] for label, one in scores.by_type.items()
    ]
    header = [title, "precision", "recall", "F1", "number"]
    table = tabulate(rows, header, tablefmt="simple", floatfmt=".2f")
    return f"{table}\n{scores.metric} {scores.score:.2f}"
