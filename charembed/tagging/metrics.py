"""Score predicted tags: entity F1 and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from charembed.errors import CharEmbedError

Task = Literal["ner", "upos"]
"""Named entities in BIO or IO tags, or parts of speech."""


def entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """Return the first word, one past the last word and the kind of each entity.

    Args:
        tags: BIO or IO tags of one sentence.

    Raises:
        CharEmbedError: a tag of another scheme.
    """
    for tag in tags:
        if tag != "O" and tag[:2] not in ("B-", "I-"):
            raise CharEmbedError(
                f"entity tags must be O, B-KIND or I-KIND, got {tag!r}: check tag_column, or set task to upos for parts"
                " of speech"
            )
    # An entity ends where the kind changes or another one begins; the added O ends one at the end of the sentence.
    spans, start = set(), 0
    for k, (before, tag) in enumerate(pairwise(["O", *tags, "O"])):
        if tag.startswith("B-") or tag[2:] != before[2:]:
            if before != "O":
                spans.add((start, k, before[2:]))
            start = k
    return spans


def entity_f1(predicted: Iterable[list[str]], expected: Iterable[list[str]]) -> float:
    """Return the micro-averaged F1 of entities in per cent; an entity counts if its extent and kind are right.

    Args:
        predicted: predicted tags of each sentence.
        expected: true tags of each sentence.

    Raises:
        CharEmbedError: a tag that is neither BIO nor IO.
    """
    correct = total = 0
    for sentence, truth in zip(predicted, expected, strict=True):
        predicted_spans, true_spans = entities(sentence), entities(truth)
        correct += len(predicted_spans & true_spans)
        total += len(predicted_spans) + len(true_spans)
    return 100 * 2 * correct / max(1, total)


def accuracy(predicted: Iterable[list[str]], expected: Iterable[list[str]]) -> float:
    """Return the share of words whose tag is right, in per cent.

    Args:
        predicted: predicted tags of each sentence.
        expected: true tags of each sentence.
    """
    correct = total = 0
    for sentence, truth in zip(predicted, expected, strict=True):
        correct += sum(tag == true_tag for tag, true_tag in zip(sentence, truth, strict=True))
        total += len(truth)
    return 100 * correct / max(1, total)


@dataclass(frozen=True)
class Metric:
    """A way to score predicted tags."""

    name: str
    """Name for logs and tables."""
    compute: Callable[[Iterable[list[str]], Iterable[list[str]]], float]
    """Function from predicted and true tags to a score in per cent."""


METRICS: dict[Task, Metric] = {"ner": Metric("entity F1", entity_f1), "upos": Metric("accuracy", accuracy)}
"""The metric of each task."""
