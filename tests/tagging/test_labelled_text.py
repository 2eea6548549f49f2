"""Labelled sentences: columns, CoNLL-U, documents and splits."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from helpers import TREEBANK

from charembed import CharEmbedError
from charembed.tagging.labelled_text import LabelledSentence, divide, read_labelled, read_splits


def test_columns(columns: Path) -> None:
    first, second, third = read_labelled(columns)
    assert (first.words, first.tags) == (["EU", "rejects", "German", "call"], ["B-ORG", "O", "B-MISC", "O"])
    assert second.text == ["Peter", "Blackburn"]
    assert third.tags == ["B-LOC"]
    message = r"train.conll, line 1 has 2 columns, but token_column is 0 and tag_column is 2 \(counted from 0\)"
    with pytest.raises(CharEmbedError, match=message):
        read_labelled(columns, 0, 2)


def test_byte_order_mark_line_ends_and_unusual_white_space(tmp_path: Path) -> None:
    """Only spaces and tabs separate columns; the suffix may be in capitals."""
    (tmp_path / "a.conll").write_bytes("\ufeff-DOCSTART- O\r\n\r\n10\u00a0000\tO\r\n\u3000 O \r\n".encode())
    (sentence,) = read_labelled(tmp_path / "a.conll")
    assert (sentence.words, sentence.tags) == (["10\u00a0000", "\u3000"], ["O", "O"])
    (tmp_path / "B.CONLLU").write_text("\ufeff" + TREEBANK)
    assert [len(sentence.words) for sentence in read_labelled(tmp_path / "B.CONLLU")] == [8, 3]


def test_documents(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("-DOCSTART- O\n\nOne O\n\nTwo O\n-DOCSTART- O\nThree O\n")
    (tmp_path / "b.conll").write_text("One O\n\nTwo O\n")
    rows = [f"1\t{word}\t_\tX\t_\t_\t0\t_\t_\t_\n\n" for word in ("One", "Two", "Three")]
    (tmp_path / "c.conllu").write_text(f"# newdoc id = 1\n{rows[0]}{rows[1]}# newdoc\n# newpar\n{rows[2]}")
    first, second, third = read_labelled(tmp_path / "a.conll")
    assert first.document == second.document != third.document
    assert third.words == ["Three"]
    assert len({sentence.document for sentence in read_labelled(tmp_path / "b.conll")}) == 1
    first, second, third = read_labelled(tmp_path / "c.conllu")
    assert first.document == second.document != third.document


def test_treebank(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "train.conllu.xz", "wt", encoding="utf-8") as file:
        file.write(TREEBANK)
    first, second = read_labelled(tmp_path / "train.conllu.xz")
    assert first.words == ["I", "do", "n't", "go", "(", "now", ")", "."]
    assert first.tags == ["PRON", "AUX", "PART", "VERB", "PUNCT", "ADV", "PUNCT", "PUNCT"]
    text, spans = first.text
    assert text == "I don't  go (now)."
    assert [text[start:end] for start, end in spans] == first.words
    assert second.text == ["in", "dem", "Haus"]  # the text has "im" instead of "in dem"


def test_missing_splits_are_drawn_from_the_training_sentences() -> None:
    sentences = [LabelledSentence([str(number)], ["O"]) for number in range(40)]
    splits = divide(sentences, None, None)
    assert [len(split) for split in splits] == [27, 3, 10]
    assert sorted((sentence for split in splits for sentence in split), key=sentences.index) == sentences
    assert list(divide(sentences, None, None)) == list(splits)
    assert divide(sentences, sentences[:1], sentences[1:3]).test == sentences[1:3]


def test_documents_are_not_divided() -> None:
    sentences = [LabelledSentence([str(number)], ["O"], document=number // 3) for number in range(60)]
    splits = divide(sentences, None, None)
    assert [len(split) for split in splits] == [39, 6, 15]
    assert sorted((sentence for split in splits for sentence in split), key=sentences.index) == sentences
    documents = [{sentence.document for sentence in split} for split in splits]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 20


def test_unusable_splits_are_refused(columns: Path) -> None:
    (columns.parent / "empty.conll").write_text("\n\n")
    (columns.parent / "plain.conll").write_text("Nothing O\nhere O\n\n" * 20)
    (columns.parent / "two.conll").write_text("EU B-ORG\n\nrejects O\n\n")
    train, empty, plain, two = (str(columns.parent / f"{name}.conll") for name in ("train", "empty", "plain", "two"))
    for files, lacking in (
        ((empty, train, train), "train"),
        ((train, empty, train), "dev"),
        ((train, train, empty), "test"),
        ((two, None, None), "train"),
        ((empty, None, None), "train"),
    ):
        message = f"the {lacking} split has no sentences: give train, dev and test files"
        with pytest.raises(CharEmbedError, match=message):
            read_splits(*files)
    with pytest.raises(CharEmbedError, match=r"all tags in .*plain\.conll are O: check token_column and tag_column"):
        read_splits(plain, None, None)
    assert [len(split) for split in read_splits(train, train, plain)] == [3, 3, 20]
    assert [len(split) for split in read_splits(train, None, None)] == [1, 1, 1]
