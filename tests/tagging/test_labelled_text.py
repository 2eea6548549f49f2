"""Layers of labelled files: names, kinds and schemes, whatever the format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import TREEBANK

from charembed import CharEmbedError
from charembed.tagging.labelled_text import Columns, LabelledSentence, read_labelled
from charembed.text.words import SpannedText


def test_the_text_of_a_sentence() -> None:
    original = SpannedText.of(("ab c", [(0, 2), (3, 4)]))
    assert LabelledSentence(["ab", "c"], {}, original).text is original
    assert LabelledSentence(["ab", "c"], {}).text == ["ab", "c"]


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        (["B-A", "I-A", "B-A", "O"], None),
        (["I-A", "I-A", "B-A", "O"], "layer entities has IOB1 tags, read as BIO"),
        (["B-A", "E-A", "S-A", "O"], "layer entities has IOBES tags, read as BIO"),
        (["B-A", "L-A", "U-A", "O"], "layer entities has BILOU tags, read as BIO"),
        (["B-A", "I-A", "B-A", "_"], "1 words without a tag in layer entities are read as O"),
    ],
)
def test_schemes_are_read_as_what_they_are_and_noted(tmp_path: Path, tags: list[str], note: str | None) -> None:
    (tmp_path / "a.conll").write_text("".join(f"w {tag}\n" for tag in tags))
    labelled = read_labelled(tmp_path / "a.conll")
    assert labelled.kinds == {"entities": "entities"}
    assert labelled.sentences[0].tags == {"entities": ["B-A", "I-A", "B-A", "O"]}
    assert labelled.notes == ([] if note is None else [f"a.conll: {note}"])


def test_io_tags_and_mistakes_in_bio_tags_are_noted(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("w I-A\nw I-A\nw I-B\n")
    labelled = read_labelled(tmp_path / "a.conll")
    assert labelled.sentences[0].tags == {"entities": ["B-A", "I-A", "B-B"]}
    assert labelled.notes == ["a.conll: layer entities has IO tags, read as BIO"]
    (tmp_path / "a.conll").write_text("w B-A\nw I-A\nw I-B\nw O\nw I-B\n")
    assert read_labelled(tmp_path / "a.conll").notes == [
        "a.conll: 2 entities of layer entities begin with I-, read as B-"
    ]


def test_each_layer_has_its_own_scheme(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("w I-A S-B X\nw O O B-C\n")
    labelled = read_labelled(tmp_path / "a.conll", Columns(tags={"one": 1, "two": 2, "three": 3}))
    assert labelled.kinds == {"one": "entities", "two": "entities", "three": "tags"}
    assert labelled.sentences[0].tags == {"one": ["B-A", "O"], "two": ["B-B", "O"], "three": ["X", "B-C"]}
    assert labelled.notes == [
        "a.conll: layer one has IO tags, read as BIO",
        "a.conll: layer two has IOBES tags, read as BIO",
    ]


@pytest.mark.parametrize("wrong", ["o", "LOC", "B", "B_LOC", "b-LOC"])
def test_a_wrong_tag_among_entity_tags_is_named(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "a.conll").write_text("Anna B-PER\nsails O\n\n" * 5 + f"# a comment\nMalta B-LOC\nis {wrong}\n")
    with pytest.raises(CharEmbedError, match=rf"a\.conll, line 18: '{wrong}' is not an entity tag, such as O, B-KIND"):
        read_labelled(tmp_path / "a.conll")
    assert read_labelled(tmp_path / "a.conll", kinds={"tags": "tags"}).sentences[-1].tags == {"tags": ["B-LOC", wrong]}


def test_tags_that_only_look_like_entity_tags(tmp_path: Path) -> None:
    """In the tag set of Gimpel et al. (2011), O is a pronoun; a tag set may have prefixes of its own."""
    for tags in (["O", "V", "L", "E"], ["O", "V-X", "B-X", "N-X"], ["O", "O", "O", "O"]):
        (tmp_path / "a.conll").write_text("".join(f"w {tag}\n" for tag in tags))
        labelled = read_labelled(tmp_path / "a.conll")
        assert (labelled.kinds, labelled.notes) == ({"tags": "tags"}, [])
        assert labelled.sentences[0].tags == {"tags": tags}


def test_known_kinds_and_names(tmp_path: Path) -> None:
    """A file gets the name and the kind of the only layer that is known, unless its own are given."""
    file = tmp_path / "a.conll"
    file.write_text("Nothing O\n")
    labelled = read_labelled(file, kinds={"ner": "entities"})
    assert (labelled.kinds, labelled.sentences[0].tags) == ({"ner": "entities"}, {"ner": ["O"]})
    assert read_labelled(file, Columns(tags={"x": 1}), {"ner": "entities"}).kinds == {"x": "tags"}
    assert read_labelled(file, Columns(tags={"x": 1}), {"x": "entities", "y": "tags"}).kinds == {"x": "entities"}

    file.write_text("w\tI-A\nw\tNN\n")
    with pytest.raises(CharEmbedError, match=r"a\.conll, line 2: 'NN' is not an entity tag"):
        read_labelled(file, kinds={"ner": "entities"})
    file.write_text("w\tI-A\nw\tO\n")
    assert read_labelled(file, kinds={"ner": "tags"}).sentences[0].tags == {"ner": ["I-A", "O"]}

    # Records have entities, so they cannot be the tags that are known.
    record = {"text": "Anna", "label": [[0, 4, "PER"]]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    assert read_labelled(tmp_path / "a.jsonl", kinds={"ner": "entities"}).kinds == {"ner": "entities"}
    assert read_labelled(tmp_path / "a.jsonl", kinds={"pos": "tags"}).kinds == {"entities": "entities"}
    (tmp_path / "a.conllu").write_text(TREEBANK)
    assert read_labelled(tmp_path / "a.conllu", kinds={"pos": "tags"}).kinds == {"pos": "tags"}
