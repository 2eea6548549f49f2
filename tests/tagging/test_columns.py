"""Files of columns: separators, comments, documents and wrong lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from charembed import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledSentence, read_labelled


def read(path: Path, content: str | bytes, columns: Columns | None = None) -> list[LabelledSentence]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labelled(path, columns).sentences


def words(sentences: list[LabelledSentence]) -> list[list[str]]:
    return [sentence.words for sentence in sentences]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.conll"


def test_several_layers_by_numbers_from_both_ends(file: Path) -> None:
    content = "1 EU NNP B-NP B-ORG\n2 rejects VBZ B-VP O\n\n1 Peter NNP B-NP B-PER\n"
    file.write_text(content)
    labelled = read_labelled(file, Columns(1, {"ner": -1, "pos": 2, "chunk": -2}))
    assert labelled.kinds == {"ner": "entities", "pos": "tags", "chunk": "entities"}
    assert labelled.notes == []
    first, second = labelled.sentences
    assert first.words == ["EU", "rejects"]
    assert first.tags == {"ner": ["B-ORG", "O"], "pos": ["NNP", "VBZ"], "chunk": ["B-NP", "B-VP"]}
    assert second.text == second.words == ["Peter"]
    assert words(read(file, content, Columns(-4, {"pos": 2}))) == [["EU", "rejects"], ["Peter"]]


def test_byte_order_mark_line_ends_and_unusual_white_space(file: Path) -> None:
    """Only spaces and tabs separate columns where some lines have no tab."""
    for end in ("\n", "\r\n", "\r"):
        content = "\ufeff-DOCSTART- O\n\n10\u00a0000\tO\n\u3000 O \n\ufeffx\u2028y \t B-A\n".replace("\n", end)
        (sentence,) = read(file, content)
        assert sentence.words == ["10\u00a0000", "\u3000", "x\u2028y"]
        assert sentence.tags == {"entities": ["O", "O", "B-A"]}


def test_words_may_contain_spaces_where_all_lines_have_tabs(file: Path) -> None:
    (sentence,) = read(file, "34 470\tO \t\nNew York\tB-LOC\n \n")
    assert sentence.words == ["34 470", "New York"]
    assert sentence.tags == {"entities": ["O", "B-LOC"]}
    (sentence,) = read(file, "one  _ NUM\nmore\t_ ADJ\nboat _ NOUN\n", Columns(0, {"pos": -1}))
    assert sentence.words == ["one", "more", "boat"]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("# sent_id = 1\n# text = #Malta is #\n#Malta\tPROPN\nis\tAUX\n#\tSYM\n\n", None),
        ("# id 0 domain=en\n#Malta _ _ B-LOC\nis _ _ O\n# _ _ O\n\n", Columns(0, {"ner": 3})),
        ("#\tn-tv.de vom 26.02.2005 [0]\n1\t#Malta\tB-LOC\tO\n2\tis\tO\tO\n3\t#\tO\tO\n\n", Columns(1, {"ner": 2})),
        ("#\tn-tv.de\t2005\t[0]\n1\t#Malta\tB-LOC\tO\n2\tis\tO\tO\n3\t#\tO\tO\n\n", Columns(1, {"ner": 2})),
        ("#begin document (x); part 000\n#Malta O\nis O\n# B-A\n\n#end document\n", None),
        ("# a comment\n#another\n#Malta O\nis O\n# B-A\n\n", None),
    ],
    ids=["treebank", "multiconer", "germeval", "germeval-tabs", "conll-2012", "free"],
)
def test_comments_are_skipped_and_hashtags_kept(file: Path, content: str, columns: Columns | None) -> None:
    assert words(read(file, content * 3, columns)) == [["#Malta", "is", "#"]] * 3


def test_a_lone_hash_begins_a_sentence(file: Path) -> None:
    assert words(read(file, "# O\nMalta B-LOC\n\n# a b\n\n# B-LOC\n")) == [["#", "Malta"], ["#"]]


def test_documents(file: Path) -> None:
    sentences = read(file, "-DOCSTART- O\n\nOne B-A\n\nTwo O\n-DOCSTART- O\nThree O\n\n# newdoc id = 3\nFour O\n")
    assert [sentence.document for sentence in sentences] == [1, 1, 2, 3]
    assert words(sentences)[2] == ["Three"]
    sentences = read(file, "1\t-DOCSTART-\tO\n\n1\tOne\tB-A\n\n1\t-DOCSTART-\tO\n1\tTwo\tO\n", Columns(1, {"ner": 2}))
    assert [sentence.document for sentence in sentences] == [1, 2]
    assert {sentence.document for sentence in read(file, "One B-A\n\nTwo O\n")} == {0}


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a O\n\nb\n", None, r"line 3 has 1 column, but the tags should be in column 1, counted from 0: correct the"),
        ("a O\nb O\n", Columns(0, {"ner": 2}), "line 1 has 2 columns, but layer ner should be in column 2, counted"),
        ("a O\n", Columns(0, {"ner": -3}), "line 1 has 2 columns, but layer ner should be in column -3, counted"),
        ("a O\n", Columns(5, {"ner": 1}), "line 1 has 2 columns, but the words should be in column 5, counted"),
        ("a\tO\n\tO\n", None, "line 2: column 0, the words, is empty: correct the line"),
        ("a\tb\tO\na\t\tO\n", None, "line 2: column 1, the tags, is empty: correct the line"),
        ("a O\n", Columns(0, {"pos": "upos"}), "layer pos is column 'upos': give a number, from 0"),
        ("a\nb\n\nc\n", None, "has no tags: its lines have one column; expected a word and its tags"),
        ("a _\nb _\n", None, "has no tags: layer tags is empty; choose another column or field"),
        ("\n# only a comment\n-DOCSTART- O\n\n", None, "has no labelled sentences"),
        ("", None, "has no labelled sentences"),
    ],
)
def test_wrong_lines_are_named(file: Path, content: str, columns: Columns | None, message: str) -> None:
    with pytest.raises(CharEmbedError, match=rf"a\.conll.*{message}"):
        read(file, content, columns)
