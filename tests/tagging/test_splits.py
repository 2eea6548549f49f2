"""Splits: drawn ones, kinds of the training file, unknown tags and the digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from charembed import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.splits import Splits, divide, read_splits, sentences_digest


def test_missing_splits_are_drawn_from_the_training_sentences() -> None:
    sentences = [LabelledSentence([str(number)], {"ner": ["O"]}) for number in range(40)]
    splits = divide(sentences, None, None)
    assert [len(split) for split in splits] == [27, 3, 10]
    assert sorted((sentence for split in splits for sentence in split), key=sentences.index) == sentences
    assert list(divide(sentences, None, None)) == list(splits)
    assert divide(sentences, sentences[:1], sentences[1:3]).test == sentences[1:3]


def test_documents_are_not_divided() -> None:
    sentences = [LabelledSentence([str(number)], {"ner": ["O"]}, document=number // 3) for number in range(60)]
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
    for files in ((empty, train, train), (train, empty, train), (train, train, empty), (empty, None, None)):
        with pytest.raises(CharEmbedError, match=r"empty\.conll has no labelled sentences"):
            read_splits(*files)
    message = r"the train split has no sentences: give train, dev and test files .* add sentences to .*two\.conll"
    with pytest.raises(CharEmbedError, match=message):
        read_splits(two, None, None)
    with pytest.raises(CharEmbedError, match=r"all tags in .*plain\.conll are O \(layer tags\): choose another column"):
        read_splits(plain, None, None)
    assert [len(split) for split in read_splits(train, train, plain).splits] == [3, 3, 20]
    assert [len(split) for split in read_splits(train, None, None).splits] == [1, 1, 1]


def test_kinds_of_the_training_file_hold_for_the_others(tmp_path: Path) -> None:
    """A dev file without an entity, a test file of another scheme and of another format."""
    (tmp_path / "train.conll").write_text("Anna I-PER\nsails O\n")
    (tmp_path / "dev.conll").write_text("Nothing O\n")
    record = {"text": "Anna", "label": [[0, 4, "PER"]]}
    (tmp_path / "test.jsonl").write_text(json.dumps(record))
    labelled = read_splits(*(str(tmp_path / name) for name in ("train.conll", "dev.conll", "test.jsonl")))
    assert labelled.kinds == {"entities": "entities"}
    assert [split[0].tags["entities"] for split in labelled.splits] == [["B-PER", "O"], ["O"], ["B-PER"]]
    assert labelled.notes[0] == "train.conll: layer entities has IO tags, read as BIO"

    (tmp_path / "train.conll").write_text("Anna PROPN\nsails VERB\n")
    with pytest.raises(
        CharEmbedError, match=r"test\.jsonl has no layer tags, which .*train\.conll has; it has entities"
    ):
        read_splits(*(str(tmp_path / name) for name in ("train.conll", "train.conll", "test.jsonl")))


def test_tags_that_training_lacks_are_noted(tmp_path: Path) -> None:
    train = tmp_path / "train.conll"
    dev = tmp_path / "dev.conll"
    train.write_text("Anna PROPN B-PER\nsails VERB O\n\n")
    dev.write_text("Anna PROPN I-PER\nOh INTJ B-LOC\nah X I-LOC\n\n")
    labelled = read_splits(str(train), str(dev), str(train), Columns(tags={"pos": 1, "ner": 2}))
    assert labelled.notes == [
        "dev.conll: 1 entities of layer ner begin with I-, read as B-",
        "dev.conll: tags of layer pos that no training sentence has, and that count as errors: INTJ, X",
        "dev.conll: kinds of entities of layer ner that no training sentence has, and that count as errors: LOC",
        "scores on test, whose sentences are all in train, say nothing about other text",
    ]

    # Drawn splits are parts of the training file.
    train.write_text("".join(f"w T{number}\n\n" for number in range(8)))
    notes = read_splits(str(train), None, None).notes
    assert len(notes) == 2
    assert notes[0].startswith(
        "dev part of train.conll: tags of layer tags that no training sentence has, and that count"
    )
    assert notes[1].startswith("test part of train.conll: tags of layer tags that no training sentence has")


def test_sentences_of_another_split_are_noted(columns: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.conll"
    other.write_text("Peter B-PER\n\n")
    in_train = "scores on {}, whose sentences are all in train, say nothing about other text"
    in_dev = in_train.format("test").replace("train", "dev, which chooses the best epoch")
    files = str(columns), str(other)
    for dev, test, notes in (
        (0, 0, [in_train.format("dev"), in_train.format("test")]),
        (1, 0, [in_train.format("test")]),
        (1, 1, [in_dev]),
    ):
        assert read_splits(files[0], files[dev], files[test]).notes == notes


def test_the_digest_is_of_words_tags_and_splits() -> None:
    """Results of charembed 0.1 are kept under the digest of words and tags alone."""
    a, b = LabelledSentence(["x"], {"ner": ["O"]}), LabelledSentence(["y", "é"], {"ner": ["B-A", "I-A"]}, document=3)
    content = '[[[["x"], ["O"]]], [[["y", "\\u00e9"], ["B-A", "I-A"]]], []]'
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert sentences_digest(Splits([a], [b], [])) == digest
    renamed = LabelledSentence(["x"], {"pos": ["O"]})
    assert sentences_digest(Splits([renamed], [b], [])) == digest
    others = [
        Splits([b], [a], []),
        Splits([LabelledSentence(["x"], {"ner": ["B-A"]})], [b], []),
        Splits([LabelledSentence(["x"], {"ner": ["O"], "pos": ["O"]})], [b], []),
        Splits([LabelledSentence(["x"], {"ner": ["O"], "tag": ["O"]})], [b], []),
    ]
    assert len({digest, *map(sentences_digest, others)}) == 5
