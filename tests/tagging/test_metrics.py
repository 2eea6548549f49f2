"""Scores of layers: by hand, and as nervaluate counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.tagging.metrics import LayerScores, TypeScores, score_layer

TAGS = st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"])


@st.composite
def tagged_sentences(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and true tags, most of them inconsistent."""
    pairs = draw(st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=4))
    return [[tag for tag, _ in pair] for pair in pairs], [[tag for _, tag in pair] for pair in pairs]


def test_entities() -> None:
    """Four true entities: one right, one of the wrong kind, one of the wrong extent, one missed; one is spurious."""
    expected = [["B-A", "I-A", "O", "B-B"], ["B-A", "I-A"], ["B-A", "O"]]
    predicted = [["B-A", "I-A", "O", "B-A"], ["B-A", "O"], ["O", "B-B"]]
    scores = score_layer("entities", predicted, expected)
    assert scores == LayerScores(
        kind="entities",
        score=pytest.approx(100 * 2 * 1 / (4 + 4)),
        precision=pytest.approx(25),
        recall=pytest.approx(25),
        by_type={
            "A": TypeScores(pytest.approx(100 / 3), pytest.approx(100 / 3), pytest.approx(100 / 3), 3, 3),
            "B": TypeScores(0, 0, 0, 1, 1),
        },
        confusion={"A": {"A": 1, "O": 2}, "B": {"A": 1}, "O": {"A": 1, "B": 1}},
    )
    assert scores.metric == "entity F1"


def test_tags() -> None:
    expected = [["A", "A", "B"], ["C"]]
    predicted = [["A", "B", "B"], ["D"]]
    scores = score_layer("tags", predicted, expected)
    assert scores == LayerScores(
        kind="tags",
        score=50.0,
        precision=None,
        recall=None,
        by_type={
            "A": TypeScores(100.0, 50.0, pytest.approx(200 / 3), 2, 1),
            "B": TypeScores(50.0, 100.0, pytest.approx(200 / 3), 1, 2),
            "C": TypeScores(0.0, 0.0, 0.0, 1, 0),
            "D": TypeScores(0.0, 0.0, 0.0, 0, 1),
        },
        confusion={"A": {"A": 1, "B": 1}, "B": {"B": 1}, "C": {"D": 1}},
    )
    assert list(scores.by_type) == ["A", "B", "C", "D"]
    assert scores.metric == "accuracy"


def test_nothing_to_score() -> None:
    scores = score_layer("entities", [["O"]], [["O"]])
    assert (scores.score, scores.precision, scores.recall, scores.by_type, scores.confusion) == (0, 0, 0, {}, {})
    assert score_layer("tags", [], []).score == 0


def test_a_kind_that_is_called_o_has_its_own_scores() -> None:
    scores = score_layer("entities", [["B-O", "O"]], [["B-O", "B-A"]])
    assert scores.by_type == {"A": TypeScores(0, 0, 0, 1, 0), "O": TypeScores(100, 100, 100, 1, 1)}


@pytest.mark.parametrize("kind", ["entities", "tags"])
def test_sentences_that_do_not_match_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"longer|shorter"):
        score_layer(kind, [["O"]], [["O"], ["O"]])
    with pytest.raises(CharEmbedError, match="a sentence of 2 words has 1 predicted tags"):
        score_layer(kind, [["O"]], [["O", "O"]])
    with pytest.raises(CharEmbedError, match="entity tags must be O, B-KIND or I-KIND, got 'NOUN'"):
        score_layer("entities", [["NOUN"]], [["O"]])


@given(sentences=tagged_sentences())
def test_entities_are_counted_as_nervaluate_does(sentences: tuple[list[list[str]], list[list[str]]]) -> None:
    """Strictly: both extent and kind must be right. Inconsistent tags are read alike."""
    from nervaluate import Evaluator

    predicted, expected = sentences
    scores = score_layer("entities", predicted, expected)
    kinds = sorted({tag[2:] for of_sentence in predicted + expected for tag in of_sentence if tag != "O"})
    results = Evaluator(expected, predicted, tags=kinds, loader="list").evaluate()
    strict = results["overall"]["strict"]
    assert scores.score == pytest.approx(100 * strict.f1)
    assert scores.precision == pytest.approx(100 * strict.precision)
    assert scores.recall == pytest.approx(100 * strict.recall)
    assert list(scores.by_type) == kinds
    for kind, by_type in scores.by_type.items():
        reference = results["entities"][kind]["strict"]
        assert by_type.support == reference.possible
        assert by_type.predicted == reference.actual
        assert by_type.precision == pytest.approx(100 * reference.precision)
        assert by_type.recall == pytest.approx(100 * reference.recall)


@given(sentences=tagged_sentences())
def test_the_confusion_holds_every_entity_once(sentences: tuple[list[list[str]], list[list[str]]]) -> None:
    scores = score_layer("entities", *sentences)
    for kind, by_type in scores.by_type.items():
        assert sum(scores.confusion.get(kind, {}).values()) == by_type.support
        assert sum(row.get(kind, 0) for row in scores.confusion.values()) == by_type.predicted
