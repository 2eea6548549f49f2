"""spaCy's `DocBin` files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from charembed import CharEmbedError
from charembed.errors import MissingExtraError
from charembed.tagging.labelled_text import read_labelled

VOCAB = spacy.blank("en").vocab
WORDS = ["Anna", "sails", "\n", "to", "New", "York", "."]
SPACES = [True, False, False, True, True, False, False]
ENTS = ["B-PER", "O", "O", "O", "B-LOC", "I-LOC", "O"]


def save(path: Path, *docs: Doc) -> Path:
    DocBin(docs=docs).to_disk(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.spacy"


def test_entities_and_tags(file: Path) -> None:
    pos = ["PROPN", "VERB", "SPACE", "ADP", "PROPN", "PROPN", "PUNCT"]
    tags = ["NNP", "VBZ", "_SP", "IN", "NNP", "NNP", "."]
    starts = [True, *[False] * 6]
    doc = Doc(VOCAB, WORDS, SPACES, ents=ENTS, tags=tags, pos=pos, sent_starts=starts)
    labelled = read_labelled(save(file, doc, doc))
    assert (labelled.kinds, labelled.notes) == ({"entities": "entities", "tag": "tags", "pos": "tags"}, [])
    first, second = labelled.sentences
    assert first.words == ["Anna", "sails", "to", "New", "York", "."]
    assert first.tags == {
        "entities": ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"],
        "tag": ["NNP", "VBZ", "IN", "NNP", "NNP", "."],
        "pos": ["PROPN", "VERB", "ADP", "PROPN", "PROPN", "PUNCT"],
    }
    text = first.text.text
    assert text == "Anna sails\nto New York."
    assert first.text.words == first.words
    assert (first.document, second.document) == (0, 1)


def test_sentences_are_marked_or_lines(file: Path) -> None:
    marked = Doc(VOCAB, WORDS, SPACES, ents=ENTS, sent_starts=[True, True, False, False, False, False, False])
    lines = Doc(VOCAB, WORDS, SPACES, ents=ENTS)
    labelled = read_labelled(save(file, marked, lines))
    assert labelled.kinds == {"entities": "entities"}
    assert [(sentence.words, sentence.tags["entities"]) for sentence in labelled.sentences] == [
        (["Anna"], ["B-PER"]),
        (["sails", "to", "New", "York", "."], ["O", "O", "B-LOC", "I-LOC", "O"]),
        (["Anna", "sails"], ["B-PER", "O"]),
        (["to", "New", "York", "."], ["O", "B-LOC", "I-LOC", "O"]),
    ]


def test_sentences_without_tags_are_left_out(file: Path) -> None:
    labelled = read_labelled(save(file, Doc(VOCAB, ["a", "b"], tags=["DT", "NN"]), Doc(VOCAB, ["c"])))
    assert labelled.kinds == {"tag": "tags"}
    assert [sentence.words for sentence in labelled.sentences] == [["a", "b"]]
    assert labelled.notes == ["train.spacy: 1 sentences with words without a tag were left out"]


def test_unusable_files_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CharEmbedError, match=r"train\.spacy has no tags: its documents have neither entities nor tags"):
        read_labelled(save(file, Doc(VOCAB, WORDS, SPACES)))
    with pytest.raises(CharEmbedError, match=r"train\.spacy has no labelled sentences"):
        read_labelled(save(file))
    whole = save(file, Doc(VOCAB, WORDS, SPACES, ents=ENTS)).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(CharEmbedError, match=r"train\.spacy is not a DocBin, or it is damaged"):
            read_labelled(file)
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match=r"train\.spacy needs spacy: pip install 'charembed\[spacy\]'"):
        read_labelled(file)
