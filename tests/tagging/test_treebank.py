"""CoNLL-U: fields, text, documents and wrong lines."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from helpers import TREEBANK

from charembed import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import read_labelled

ROW = "1\tAnna\tAnna\tPROPN\tNNP\tNumber=Sing\t0\troot\t_\tSpaceAfter=No\n2\tsails\tsail\tVERB\tVBZ\t_\t1\tx\t_\t_\n\n"


def test_treebank(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "train.conllu.xz", "wt", encoding="utf-8") as file:
        file.write(TREEBANK)
    labelled = read_labelled(tmp_path / "train.conllu.xz")
    assert (labelled.kinds, labelled.notes) == ({"tags": "tags"}, [])
    first, second = labelled.sentences
    assert first.words == ["I", "do", "n't", "go", "(", "now", ")", "."]
    assert first.tags == {"tags": ["PRON", "AUX", "PART", "VERB", "PUNCT", "ADV", "PUNCT", "PUNCT"]}
    text = first.text.text
    assert text == "I don't  go (now)."
    assert first.text.words == first.words
    assert second.text == ["in", "dem", "Haus"]  # the text has "im" instead of "in dem"


def test_name_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "B.CONLLU.txt").write_bytes(("\ufeff" + TREEBANK).replace("\n", "\r\n").encode())
    assert [len(sentence.words) for sentence in read_labelled(tmp_path / "B.CONLLU.txt").sentences] == [8, 3]


def test_any_field_by_name_or_number(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(ROW)
    layers: dict[str, int | str] = {"x": "xpos", "f": "feats", "m": -1, "l": 2, "d": "deprel", "h": "head"}
    labelled = read_labelled(tmp_path / "a.conllu", Columns(tags=layers))
    assert labelled.sentences[0].tags == {
        "x": ["NNP", "VBZ"],
        "f": ["Number=Sing", "_"],
        "m": ["SpaceAfter=No", "_"],
        "l": ["Anna", "sail"],
        "d": ["root", "x"],
        "h": ["0", "1"],
    }
    for field in ("ner", 10):
        with pytest.raises(
            CharEmbedError, match=rf"a\.conllu has no field '?{field}'? for layer y: choose from id, form"
        ):
            read_labelled(tmp_path / "a.conllu", Columns(tags={"y": field}))


def test_conllu_plus(tmp_path: Path) -> None:
    content = "# global.columns = ID FORM NE\n# text = Anna sails\n1\tAnna\tB-PER\n2\tsails\t_\n"
    (tmp_path / "a.conllup").write_text(content)
    labelled = read_labelled(tmp_path / "a.conllup", Columns(tags={"ner": "ne"}))
    assert labelled.kinds == {"ner": "entities"}
    assert labelled.sentences[0].tags == {"ner": ["B-PER", "O"]}
    assert labelled.notes == ["a.conllup: 1 words without a tag in layer ner are read as O"]


def test_sentences_with_words_without_a_tag_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.conllu"
    file.write_text(ROW + ROW.replace("VERB", "_"))
    labelled = read_labelled(file)
    assert [sentence.tags for sentence in labelled.sentences] == [{"tags": ["PROPN", "VERB"]}]
    assert labelled.notes == ["a.conllu: 1 sentences with words without a tag were left out"]
    file.write_text(ROW.replace("VERB", "_"))
    with pytest.raises(CharEmbedError, match="has no labelled sentences: all 1 have words without a tag"):
        read_labelled(file)
    file.write_text(ROW.replace("VERB", "_").replace("PROPN", "_"))
    with pytest.raises(CharEmbedError, match="has no tags: layer tags is empty; choose another column or field"):
        read_labelled(file)


def test_documents(tmp_path: Path) -> None:
    (tmp_path / "c.conllu").write_text(f"# newdoc id = 1\n{ROW}{ROW}# newdoc\n\n# newpar\n{ROW}")
    first, second, third = read_labelled(tmp_path / "c.conllu").sentences
    assert first.document == second.document != third.document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROW.replace("\t", " "), "line 1 is not CoNLL-U: Invalid line format"),
        (ROW + ROW.replace("2\tsails", "b\tsails"), "line 5 is not CoNLL-U: Failed parsing field 'id': 'b' is not"),
        (ROW.replace("2\tsails", "_\tsails"), "line 2 is not CoNLL-U: the word has no id"),
        (
            "# x\n" + ROW.replace("2\tsails\tsail\tVERB\tVBZ\t_\t1\tx\t_\t_", "2\tsails"),
            "line 3 .* has 2 columns, and upos",
        ),
        ("# text = nothing\n\n", "has no labelled sentences"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.conllu").write_text(content)
    with pytest.raises(CharEmbedError, match=rf"a\.conllu.*{message}"):
        read_labelled(tmp_path / "a.conllu")
