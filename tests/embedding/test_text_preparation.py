"""Tests of composing decomposed text, and of the warning for text that the vocabulary lacks."""

from __future__ import annotations

import logging
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedder, CharVocab, WordEncoder
from charembed.embedding.context import Context
from charembed.embedding.text_preparation import TextPreparation
from charembed.pretrained.model_folder import Pretrained
from charembed.text.words import SpannedText

TEXT = "Die Ärzte fuhren über die Brücke nach Köln."
VOCAB = CharVocab.build([TEXT, "ạ한"], coverage=1.0)


@pytest.fixture
def german(pretrained: Pretrained) -> CharEmbedder:
    """An embedder with a vocabulary of as many characters, composed umlauts among them."""
    size = len(pretrained.vocab)
    characters = [*pretrained.vocab.characters[: size - 1 - 6], *"äöüÄÖÜ"]
    pretrained.vocab = CharVocab(characters)
    return CharEmbedder(pretrained, engine="torch")


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("context", [None, Context(sentences=1)])
def test_decomposed_text_has_the_vectors_of_composed_text(german: CharEmbedder, context: Context | None) -> None:
    composed = german.embed([TEXT, TEXT[4:]], context)
    texts = [decomposed(TEXT), decomposed(TEXT[4:])]
    for text, expected, got in zip(texts, composed, german.embed(texts, context), strict=True):
        np.testing.assert_array_equal(got.vectors, expected.vectors)
        assert got.words == [decomposed(word) for word in expected.words]
        assert got.words == [text[start:end] for start, end in got.spans], "offsets into the text as given"
    words = [decomposed(word) for word in composed[0].words]
    np.testing.assert_array_equal(german.embed([words])[0].vectors, german.embed([composed[0].words])[0].vectors)
    encoder = WordEncoder(german)
    np.testing.assert_array_equal(encoder([decomposed(TEXT)])[0].detach().numpy(), encoder([TEXT])[0].detach().numpy())


@given(st.text())
def test_text_in_normal_form_is_not_touched(text: str) -> None:
    spanned = SpannedText.of(unicodedata.normalize("NFC", text))
    assert TextPreparation(VOCAB).compose(spanned) is spanned


@given(st.text(alphabet="aeuo \u0308\u0323\u0301\u1112\u1161\u11ab"), st.data())
def test_spans_of_composed_text(text: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(text)))
    start = data.draw(st.integers(0, end))
    composed = TextPreparation(VOCAB).compose(SpannedText.of((text, [(start, end)])))
    assert unicodedata.normalize("NFD", composed.text) == decomposed(text), "the same text"
    [(first, last)] = composed.spans.tolist()
    assert decomposed(text[start:end]) in unicodedata.normalize("NFD", composed.text[first:last]) or start == end
    assert 0 <= first <= last <= len(composed.text)


def test_what_the_vocabulary_lacks_stays_as_it_is() -> None:
    preparation = TextPreparation(VOCAB)

    def read(text: str) -> str:
        return preparation.compose(SpannedText.of(text)).text

    assert read("u\u0308") == "ü"
    assert read("e\u0301") == "e\u0301", "é is not in the vocabulary either"
    assert read("u\u0308\u0301") == "ü\u0301", "as much as is known"
    assert read("\u1112\u1161\u11ab") == "한"
    both = CharVocab.build(["uü\u0308"], coverage=1.0)
    assert TextPreparation(both).compose(SpannedText.of("u\u0308")).text == "u\u0308", "the model knows the mark"


def test_many_unknown_characters_are_told_once(embedder: CharEmbedder, caplog: pytest.LogCaptureFixture) -> None:
    embedder.embed(["The lazy dog jumps over the fox."])
    assert not caplog.records
    embedder.embed(["Лодка вышла в море."] * 2)
    embedder.embed(["Лодка вышла в море."] * 2)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "of the characters so far are unknown to the model" in record.getMessage()
    assert embedder.preparation.unknown == 4 * 15
