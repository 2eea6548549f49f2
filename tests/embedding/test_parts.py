"""The parts of a vector: which of them there are, what they contain, and that the others are not computed."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers import AWKWARD_TEXTS, assert_same_vectors, reference_vectors, small_model, small_static_vectors

from charembed import BiCharLM, CharEmbedder, CharEmbedError, Context
from charembed.embedding.engine import Engine
from charembed.embedding.limits import EmbeddingLimits
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.parts import PARTS, Part

WIDTHS = {"forward": 12, "backward": 12, "words": 4}
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(PARTS, size)]
TEXTS = [text for text in AWKWARD_TEXTS if len(text) < 1000]
TEXTS += ["x" * 300, "The lazy dog.", "THE Lazy doge", ["the", "東", "", "unknown"], ("The dog", [(4, 7), (0, 3)])]


def columns(parts: tuple[Part, ...]) -> list[int]:
    """Return which dimensions of the vector of all parts belong to some of them."""
    start, chosen = 0, []
    for part in PARTS:
        chosen += range(start, start + WIDTHS[part]) if part in parts else []
        start += WIDTHS[part]
    return chosen


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_static_vectors_follow_the_states(with_words: Pretrained, engine) -> None:
    embedder = CharEmbedder(with_words, engine=engine)
    assert embedder.parts == PARTS
    assert embedder.embedding_dim == 28
    for text, result in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        words = [unicodedata.normalize("NFC", word) for word in result.words]  # as the vocabulary of the model has them
        expected = [reference_vectors(with_words, text), with_words.static.lookup(words)]
        assert_same_vectors(result.vectors, np.concatenate(expected, axis=1), result.words)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("parts", SUBSETS, ids="+".join)
@pytest.mark.parametrize("limits", [{}, {"window_characters": 20, "part_characters": 9}], ids=["window", "long"])
def test_a_selection_of_parts_is_that_of_the_whole_vector(with_words, parts, engine, limits) -> None:
    whole = CharEmbedder(with_words, engine=engine).embed(TEXTS)
    # The order in which parts are named does not matter.
    embedder = CharEmbedder(with_words, engine=engine, parts=parts[::-1], limits=EmbeddingLimits(**limits))
    assert embedder.parts == parts
    assert embedder.embedding_dim == len(columns(parts))
    for result, expected in zip(embedder.embed(TEXTS), whole, strict=True):
        assert (result.words, result.spans) == (expected.words, expected.spans)
        assert result.vectors.dtype == np.float32
        assert_same_vectors(result.vectors, expected.vectors[:, columns(parts)], result.words)


@pytest.mark.parametrize("parts", SUBSETS, ids="+".join)
def test_parts_that_are_left_out_are_not_computed(with_words, parts, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, looked_up = set(), []
    embedder = CharEmbedder(with_words, engine="torch", parts=parts)
    engine = type(embedder._engines.setup.engine)
    assert issubclass(engine, Engine)
    original, lookup = engine._prepare, type(with_words.static).lookup
    monkeypatch.setattr(engine, "_prepare", lambda self, name, lm: prepared.add(name) or original(self, name, lm))
    monkeypatch.setattr(
        type(with_words.static), "lookup", lambda self, words: looked_up.append(1) or lookup(self, words)
    )
    embedder.embed(["The lazy dog."])
    assert prepared == set(parts) - {"words"}
    assert bool(looked_up) == ("words" in parts)


def test_models_without_static_vectors_are_as_before(pretrained: Pretrained) -> None:
    embedder = CharEmbedder(pretrained)
    assert embedder.parts == ("forward", "backward")
    assert "parts" not in repr(embedder)
    assert repr(CharEmbedder(pretrained, parts=["forward"])).startswith(
        "CharEmbedder(lstm, embedding_dim=12, parts=forward,"
    )


def test_a_model_of_one_direction_has_the_parts_of_one(with_words: Pretrained) -> None:
    alone = BiCharLM(with_words.model.config, ["backward"])
    alone.backward_lm = with_words.model.backward_lm
    model = dataclasses.replace(with_words, model=alone)
    expected = CharEmbedder(with_words).embed(["The lazy dog."])[0].vectors
    embedder = CharEmbedder(model)
    assert embedder.parts == ("backward", "words")
    assert_same_vectors(embedder.embed(["The lazy dog."])[0].vectors, expected[:, 12:], ["The", "lazy", "dog", "."])
    with pytest.raises(CharEmbedError, match=r"parts: the model has no forward, only backward, words$"):
        CharEmbedder(model, parts=["forward"])


@pytest.mark.parametrize(
    "parts", [[], "words", "forward", ["word"], ["words", "ngrams"], [None], 3, {"words": 1}, [["words"]]]
)
def test_unknown_parts_are_refused(with_words: Pretrained, parts) -> None:
    with pytest.raises(
        CharEmbedError, match="parts must be one or several of forward, backward, words, in a list, got"
    ):
        CharEmbedder(with_words, parts=parts)


def test_a_part_that_the_model_lacks_is_refused(pretrained: Pretrained) -> None:
    with pytest.raises(
        CharEmbedError, match="no words, only forward, backward; charembed add-words adds static vectors"
    ):
        CharEmbedder(pretrained, parts=["forward", "words"])


def test_static_vectors_do_not_depend_on_the_context(with_words: Pretrained) -> None:
    embedder = CharEmbedder(with_words, parts=["words"])
    alone, other = embedder.embed(["dog", "dog"], Context(sentences=1))
    assert np.array_equal(alone.vectors, other.vectors)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda embedder: pickle.loads(pickle.dumps(embedder))])
def test_copies_have_the_same_parts(with_words: Pretrained, copied) -> None:
    embedder = CharEmbedder(with_words, parts=["words", "backward"])
    other = copied(embedder)
    assert other.parts == embedder.parts == ("backward", "words")
    assert other.options == embedder.options
    assert_same_vectors(other.embed(["a dog"])[0].vectors, embedder.embed(["a dog"])[0].vectors, ["a", "dog"])


def test_a_saved_embedder_has_all_parts_of_its_model(with_words: Pretrained, tmp_path: Path) -> None:
    CharEmbedder(with_words, parts=["words"]).save_pretrained(tmp_path / "model")
    loaded = CharEmbedder.from_pretrained(tmp_path / "model")
    assert loaded.parts == PARTS
    expected = CharEmbedder(with_words).embed(["The lazy doge."])[0]
    assert_same_vectors(loaded.embed(["The lazy doge."])[0].vectors, expected.vectors, expected.words)
    backward = CharEmbedder.from_pretrained(tmp_path / "model", parts=["backward"])
    assert_same_vectors(backward.embed(["The lazy doge."])[0].vectors, expected.vectors[:, 12:24], expected.words)


def test_the_cache_holds_static_vectors_too() -> None:
    model = dataclasses.replace(small_model(), static=small_static_vectors())
    embedder = CharEmbedder(model, cache_mb=1, parts=["words"])
    first, second = (embedder.embed(["The lazy dog."])[0].vectors for _ in range(2))
    assert np.array_equal(first, second)
    assert embedder._passages.cache.size == first.nbytes
