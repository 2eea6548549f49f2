"""Tag texts: offsets, order, long texts, scores."""

from __future__ import annotations

import itertools

import pytest
from helpers import small_model, small_static_vectors, small_tagger
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.tagging import tagger as tagger_module
from charembed.tagging.tagger import Tagger
from charembed.text.words import SpannedText

TAGGER = small_tagger(CharEmbedder(small_model()))
TEXTS = ["The quick fox, over 東 dogs.", "", "jumps", "  \t", "lazy dog lazy"]


def test_every_word_has_a_tag_of_each_layer_and_its_offsets() -> None:
    for text, tagged in zip(TEXTS, TAGGER.predict(TEXTS), strict=True):
        expected = SpannedText.of(text)
        assert tagged.text == text
        assert tagged.words == expected.words
        assert tagged.spans == [tuple(span) for span in expected.spans.tolist()]
        assert {name: len(tags) for name, tags in tagged.tags.items()} == dict.fromkeys(
            ("ner", "upos"), len(expected.words)
        )
        assert all(0 < score <= 1 for scores in tagged.scores.values() for score in scores)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_entities_are_the_spans_of_the_tags_in_any_text(texts: list[str]) -> None:
    for text, tagged in zip(texts, TAGGER.predict(texts), strict=True):
        begins = [k for k, tag in enumerate(tagged.tags["ner"]) if tag.startswith("B-")]
        assert [entity.start for entity in tagged.entities] == [tagged.spans[k][0] for k in begins]
        for entity in tagged.entities:
            assert entity.text == text[entity.start : entity.end] != ""
            assert entity.label in ("LOC", "PER")
            assert 0 < entity.score <= 1
        before = ["O", *tagged.tags["ner"]]
        assert not any(two.startswith("I-") and one[2:] != two[2:] for one, two in itertools.pairwise(before))


def test_tags_do_not_depend_on_other_texts_or_their_order() -> None:
    together = TAGGER.predict(TEXTS)
    for text, tagged in zip(TEXTS, together, strict=True):
        [alone] = TAGGER.predict([text])
        assert (alone.tags, alone.words, alone.spans) == (tagged.tags, tagged.words, tagged.spans)


def test_texts_of_any_length_come_back_in_order_with_the_same_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    words = SpannedText.of("The quick brown fox jumps over the lazy dog .").words
    texts = [" ".join(words[k] for k in range(start % 10)) for start in range(0, 90, 7)]
    expected = TAGGER.predict(texts)
    # Pools of a few texts, batches of one or two, texts in several pieces.
    for name, value in {"POOL_WORDS": 12, "BATCH_WORDS": 8, "MAX_WORDS": 9}.items():
        monkeypatch.setattr(tagger_module, name, value)
    tagged = TAGGER.predict(texts)
    assert [(one.text, one.words, one.tags) for one in tagged] == [(one.text, one.words, one.tags) for one in expected]
    for one, other in zip(tagged, expected, strict=True):
        assert one.scores["ner"] == pytest.approx(other.scores["ner"], abs=1e-5)


def test_words_and_spans_given_by_the_caller_are_used() -> None:
    listed, spanned = TAGGER.predict([["lazy", "dog"], ("a lazy dog", [(2, 6), (7, 10)])])
    assert (listed.text, listed.spans) == ("lazy dog", [(0, 4), (5, 8)])
    assert (spanned.text, spanned.words, spanned.spans) == ("a lazy dog", ["lazy", "dog"], [(2, 6), (7, 10)])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(6, 2)], r"span \(6, 2\) ends before it starts"),
        ([(7, 10), (2, 6)], r"must be in its order and must not overlap, got span \(2, 6\) after \(7, 10\)"),
        ([(0, 1), (2, 6), (5, 10)], r"must not overlap, got span \(5, 10\) after \(2, 6\)"),
    ],
)
def test_spans_that_are_no_sequence_of_words_are_refused(spans: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        TAGGER.predict([("a lazy dog", spans)])


def test_long_texts_are_cut_at_ends_of_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"The quick fox {k} jumps over the dog ." for k in range(30))
    monkeypatch.setattr(tagger_module, "MAX_WORDS", 20)
    [tagged] = TAGGER.predict([text])
    # Words of two sentences at a time: the same tags as if each pair were a text for the network.
    words = SpannedText.of(text)
    vectors = TAGGER.embedder.embed([text])[0]
    pairs = [slice(start, start + 18) for start in range(0, len(words.words), 18)]
    expected: list[str] = []
    for pair in pairs:
        piece = type(vectors)(vectors.words[pair], vectors.spans[pair], vectors.vectors[pair])
        expected += TAGGER.network.predict([TAGGER.input_vectors(piece)])[0]["ner"]
    assert tagged.tags["ner"] == expected
    assert tagged.words == words.words


def test_texts_are_tagged_as_they_come() -> None:
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield f"The quick fox {number}"

    first = list(itertools.islice(TAGGER.iter_predict(endless()), 3))
    assert [tagged.text for tagged in first] == [f"The quick fox {number}" for number in range(3)]
    assert len(read) < 50_000


@pytest.mark.parametrize("encoder", ["bilstm", "linear"])
def test_static_vectors_beside_the_model_change_the_tags(encoder) -> None:
    with_static = small_tagger(CharEmbedder(small_model()), static=small_static_vectors(dim=4), encoder=encoder)
    assert with_static.network.config.input_size == 28
    assert with_static.predict(["The lazy dog"])[0].words == ["The", "lazy", "dog"]
    rows = with_static.input_vectors(with_static.embedder.embed(["The lazy"])[0])
    assert rows[:, 24:].numpy() == pytest.approx(small_static_vectors(dim=4).lookup(["The", "lazy"]))


def test_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(CharEmbedError, match="for word vectors of 24 dimensions, but these have 28"):
        Tagger(TAGGER.embedder, TAGGER.network, small_static_vectors(dim=4))


@pytest.mark.parametrize("item", [None, 5, b"abc", ("abc", None)])
def test_what_is_no_text_has_a_clear_error(item) -> None:
    with pytest.raises((TypeError, CharEmbedError), match=r"text|span"):
        TAGGER.predict([item])


def test_a_single_text_is_refused() -> None:
    with pytest.raises(TypeError, match="put it in a list"):
        TAGGER.predict("The quick fox")
