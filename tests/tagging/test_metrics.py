"""Entity F1 and accuracy."""

from __future__ import annotations

import pytest

from charembed import CharEmbedError
from charembed.tagging.metrics import accuracy, entities, entity_f1


def test_entities_of_bio_and_io_tags() -> None:
    assert entities(["B-A", "I-A", "O", "B-A", "B-A", "I-B"]) == {(0, 2, "A"), (3, 4, "A"), (4, 5, "A"), (5, 6, "B")}
    assert entities(["I-A", "I-A", "I-B", "O", "I-B"]) == {(0, 2, "A"), (2, 3, "B"), (4, 5, "B")}
    assert entities(["O"]) == set() == entities([])
    for tag in ("S-A", "LOC", "B", "o", ""):
        with pytest.raises(CharEmbedError, match=f"entity tags must be O, B-KIND or I-KIND, got '{tag}'"):
            entities(["O", tag])


def test_scores() -> None:
    """Two of three entities are predicted, one of them exactly, the other with a wrong extent."""
    expected = [["B-A", "I-A", "O"], ["B-B", "O"], ["B-A"]]
    predicted = [["B-A", "O", "O"], ["B-B", "O"], ["O"]]
    assert entity_f1(predicted, expected) == pytest.approx(100 * 2 * 1 / (2 + 3))
    assert accuracy(predicted, expected) == pytest.approx(100 * 4 / 6)
    assert entity_f1([["O"]], [["O"]]) == 0
    for metric in (entity_f1, accuracy):
        with pytest.raises(ValueError, match="longer"):
            metric(predicted[:2], expected)
