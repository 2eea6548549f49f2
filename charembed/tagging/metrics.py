"""Score predicted tags: precision, recall and F1 of entities, accuracy of other tags, and what was confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from charembed.errors import CharEmbedError
from charembed.tagging.tag_schemes import LayerKind, entity_spans

OUTSIDE = "O"
"""What an entity is confused with that was missed, or predicted where there is none."""
METRICS: dict[LayerKind, str] = {"entities": "entity F1", "tags": "accuracy"}
"""Name of the score of each kind of layer."""


@dataclass(frozen=True)
class TypeScores:
    """Scores of one kind of entities, or of one tag."""

    precision: float
    """Share of the predicted ones that are right, in per cent; 0 if there are none."""
    recall: float
    """Share of the true ones that were predicted, in per cent; 0 if there are none."""
    f1: float
    """Harmonic mean of precision and recall, in per cent."""
    support: int
    """Number of true ones."""
    predicted: int
    """Number of predicted ones."""

    @classmethod
    def from_counts(cls, correct: int, support: int, predicted: int) -> TypeScores:
        """Compute the scores from numbers of entities or words."""
        return cls(
            precision=100 * correct / max(1, predicted),
            recall=100 * correct / max(1, support),
            f1=100 * 2 * correct / max(1, support + predicted),
            support=support,
            predicted=predicted,
        )


@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer of tags."""

    kind: LayerKind
    """Whether the layer holds entities or other tags."""
    score: float
    """Micro-averaged F1 of entities, or share of the words whose tag is right, in per cent."""
    precision: float | None
    """Precision over all kinds of entities, in per cent; None for other tags."""
    recall: float | None
    """Recall over all kinds of entities, in per cent; None for other tags."""
    by_type: dict[str, TypeScores]
    """Scores of each kind of entities, or of each tag, sorted by name."""
    confusion: dict[str, dict[str, int]]
    """How often each true tag was predicted as each other one and as itself, in words. For entities, in entities of
    exactly the same words: a missed one is confused with O, and O with one that does not exist."""

    @property
    def metric(self) -> str:
        """Name of the score."""
        return METRICS[self.kind]


def score_layer(kind: LayerKind, predicted: Iterable[list[str]], expected: Iterable[list[str]]) -> LayerScores:
    """Score the tags of a layer.

    An entity is right if both its extent and its kind are; a tag that is unknown to the tagger is an error. Entities
    are counted as by seqeval (default mode) and nervaluate (strict).

    Args:
        kind: whether the layer holds entities or other tags.
        predicted: predicted tags of each sentence.
        expected: true tags of each sentence.

    Raises:
        CharEmbedError: a sentence has more or fewer predicted tags than words, or a tag of an entity layer is not an
            entity tag.
        ValueError: the numbers of sentences differ.
    """
    counts = _Counts()
    for predicted_tags, true_tags in zip(predicted, expected, strict=True):
        if len(predicted_tags) != len(true_tags):
            raise CharEmbedError(f"a sentence of {len(true_tags)} words has {len(predicted_tags)} predicted tags")
        if kind == "entities":
            counts.add_entities(predicted_tags, true_tags)
        else:
            counts.add_words(predicted_tags, true_tags)

    names = sorted(counts.support.keys() | counts.predicted.keys())
    total = TypeScores.from_counts(counts.correct.total(), counts.support.total(), counts.predicted.total())
    is_entities = kind == "entities"
    return LayerScores(
        kind=kind,
        # Each word has one true and one predicted tag, so that accuracy is precision, recall and F1 at once.
        score=total.f1,
        precision=total.precision if is_entities else None,
        recall=total.recall if is_entities else None,
        by_type={
            name: TypeScores.from_counts(counts.correct[name], counts.support[name], counts.predicted[name])
            for name in names
        },
        confusion=counts.confusion_table(),
    )


@dataclass
class _Counts:
    """Numbers of entities or words, by their kind or tag."""

    correct: Counter[str] = field(default_factory=Counter)
    support: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By true and predicted one."""

    def add_words(self, predicted: list[str], expected: list[str]) -> None:
        for true, guess in zip(expected, predicted, strict=True):
            self._add(true, guess)

    def add_entities(self, predicted: list[str], expected: list[str]) -> None:
        true_kinds = {(start, end): kind for start, end, kind in entity_spans(expected)}
        predicted_kinds = {(start, end): kind for start, end, kind in entity_spans(predicted)}
        for extent in true_kinds | predicted_kinds:
            self._add(true_kinds.get(extent), predicted_kinds.get(extent))

    def _add(self, true: str | None, guess: str | None) -> None:
        """Count one entity or word; None for an entity that does not exist on this side."""
        self.confused[OUTSIDE if true is None else true, OUTSIDE if guess is None else guess] += 1
        if true is not None:
            self.support[true] += 1
            self.correct[true] += true == guess
        if guess is not None:
            self.predicted[guess] += 1

    def confusion_table(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for (true, guess), count in sorted(self.confused.items()):
            table.setdefault(true, {})[guess] = count
        return table
