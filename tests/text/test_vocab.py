"""Tests of the vocabulary, against the `tokenizers` library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import AWKWARD_TEXTS, EXCERPT
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from charembed import CharEmbedError, CharVocab

UTF8_TEXTS = [text for text in AWKWARD_TEXTS if not any("\ud800" <= c <= "\udfff" for c in text)]


@pytest.fixture(scope="module")
def english() -> CharVocab:
    return CharVocab.build([EXCERPT.read_text(encoding="utf-8")])


@pytest.fixture(scope="module")
def tokenizer(english: CharVocab, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("vocab") / "tokenizer.json"
    english.save(path)
    return Tokenizer.from_file(str(path))


@pytest.mark.parametrize("text", UTF8_TEXTS)
def test_same_ids_as_tokenizers_on_awkward_text(english: CharVocab, tokenizer: Tokenizer, text: str) -> None:
    assert english.encode(text).tolist() == tokenizer.encode(text).ids


def test_same_ids_as_tokenizers_on_real_text(english: CharVocab, tokenizer: Tokenizer) -> None:
    text = EXCERPT.read_text(encoding="utf-8")
    ids = english.encode(text)
    assert ids.tolist() == tokenizer.encode(text).ids
    assert english.decode(ids) == tokenizer.decode(ids.tolist())
    assert 0 < np.mean(ids == 0) < 1.1e-4, "coverage 0.9999 leaves just under one character in 10,000 unknown"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_same_ids_and_text_as_tokenizers_on_any_text(text: str) -> None:
    vocab = CharVocab.build(["aábc\n  ßпривет東\U0001f469\u200d"], coverage=1.0)
    tokenizer = vocab.to_tokenizer()
    ids = vocab.encode(text)
    assert ids.tolist() == tokenizer.encode(text).ids
    assert vocab.decode(ids) == tokenizer.decode(ids.tolist())


@given(st.text(st.characters(), min_size=1))
def test_ids_and_characters_correspond_one_to_one(text: str) -> None:
    vocab = CharVocab.build([text], coverage=1.0)
    decoded = vocab.decode(vocab.encode(text))
    assert decoded == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


@given(st.text(st.characters(), min_size=1), st.floats(0.01, 1.0))
def test_coverage_is_reached_with_the_fewest_characters(text: str, coverage: float) -> None:
    vocab = CharVocab.build([text], coverage=coverage)
    storable = [c for c in text if not "\ud800" <= c <= "\udfff"]
    if len(storable) == len(text):
        assert np.mean(vocab.encode(text) > 0) >= coverage - 1e-9
    chosen = sorted((storable.count(c) for c in set(vocab.characters) - {"\n", " "}), reverse=True)
    assert 0 not in chosen, "only characters of the text"
    if len(storable) == len(text) and chosen and "\n" not in text and " " not in text:
        assert sum(chosen[:-1]) < coverage * len(text) + 1e-9, "one character fewer would not have been enough"


def test_max_size_keeps_the_most_frequent_and_the_required_characters() -> None:
    vocab = CharVocab.build(["aaaabbbccd"], max_size=5)
    assert vocab.characters == ("\n", " ", "a", "b")
    assert len(vocab) == 5


def test_counting_text_by_text_equals_counting_at_once() -> None:
    text = EXCERPT.read_text(encoding="utf-8")
    pieces = [text[k : k + 5000] for k in range(0, len(text), 5000)]
    assert CharVocab.build(pieces) == CharVocab.build([text])


def test_the_order_of_the_text_does_not_matter() -> None:
    assert CharVocab.build(["abcabc"]) == CharVocab.build(["cba", "bca"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "empty"),
        ({"texts": [""]}, "empty"),
        ({"texts": ["a"], "coverage": 0.0}, "coverage must be above 0 and at most 1, got 0.0"),
        ({"texts": ["a"], "coverage": 1.5}, "coverage"),
        ({"texts": ["a"], "max_size": 2}, "max_size must be at least 3"),
    ],
)
def test_build_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharVocab.build(**arguments)


@pytest.mark.parametrize("characters", [["ab"], [""], ["\ud800"], ["a", "a"]])
def test_a_vocabulary_holds_distinct_single_characters(characters: list[str]) -> None:
    with pytest.raises(CharEmbedError):
        CharVocab(characters)


def test_decode_refuses_unknown_ids() -> None:
    vocab = CharVocab("ab")
    for wrong in ([3], [-1]):
        with pytest.raises(IndexError, match="from 0 to 2"):
            vocab.decode(wrong)


def test_save_and_load_keep_the_table(english: CharVocab, tmp_path: Path) -> None:
    english.save(tmp_path / "tokenizer.json")
    assert CharVocab.load(tmp_path / "tokenizer.json") == english
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"], "no temporary file is left"


def test_load_refuses_other_tokenizers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("not json")
    with pytest.raises(CharEmbedError, match=r"is not a tokenizer.json"):
        CharVocab.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CharEmbedError, match=r"is not a tokenizer.json"):
        CharVocab.load(path)
    with_steps = json.loads(CharVocab("ab").to_json()) | {"normalizer": {"type": "Precompiled", "x": 1}}
    path.write_text(json.dumps(with_steps))
    with pytest.raises(CharEmbedError, match="expected BPE without merges and other steps"):
        CharVocab.load(path)
    of_words = json.loads(CharVocab("ab").to_json())
    of_words["model"]["vocab"] = {"<unk>": 0, "word": 1, "b": 2}
    path.write_text(json.dumps(of_words))
    with pytest.raises(CharEmbedError, match=r"is not a character vocabulary.*'word'"):
        CharVocab.load(path)
    of_words["model"]["vocab"] = [7]
    path.write_text(json.dumps(of_words))
    with pytest.raises(CharEmbedError, match=r"is not a tokenizer.json: IndexError"):
        CharVocab.load(path)
    of_words["model"]["vocab"] = {"a": 0, "<unk>": 1}
    path.write_text(json.dumps(of_words))
    with pytest.raises(CharEmbedError, match="ids must run from 0"):
        CharVocab.load(path)
