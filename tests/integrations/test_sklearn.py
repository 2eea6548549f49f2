"""scikit-learn: word vectors as features of a classifier."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import EMBEDDER_OPTIONS, INVALID_EMBEDDER_OPTIONS, assert_same_vectors, with_projection
from sklearn.exceptions import NotFittedError

from charembed import CharEmbedder, CharEmbedError


@pytest.fixture
def folder(embedder, tmp_path: Path) -> str:
    with_projection(embedder.pretrained, readout="separator").save(tmp_path / "model")
    return str(tmp_path / "model")


def test_each_sample_gets_the_vector_of_its_word(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    words, text = ["two", "words", "two"], "The fox, the dog."
    samples = [(words, 2), (text, (4, 7)), (words, 0), (text, (0, 3)), (words, 2), ([text], 0)]
    vectors = CharEmbedTransformer(folder).fit_transform(samples)
    of_words, of_text, alone = embedder.embed([words, (text, [(4, 7), (0, 3)]), [text]])
    rows = [of_words.vectors[2], of_text.vectors[0], of_words.vectors[0], of_text.vectors[1], of_words.vectors[2]]
    assert_same_vectors(vectors, np.stack([*rows, alone.vectors[0]]), [str(sample) for sample in samples])


def test_pipeline_can_be_cloned_searched_and_pickled(folder: str) -> None:
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    from charembed.integrations.sklearn import CharEmbedTransformer

    sentences = [["the", "fox", "runs"], ["a", "dog", "jumps"], ["the", "dog", "runs"], ["a", "fox", "jumps"]]
    samples = [(words, index) for words in sentences for index in range(3)]
    tags = ["DET", "NOUN", "VERB"] * 4
    pipeline = clone(make_pipeline(CharEmbedTransformer(folder), LogisticRegression()))
    grid = {"logisticregression__C": [1.0, 100.0], "charembedtransformer__readout": ["word", "separator"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(samples, tags)
    assert search.predict(samples).tolist() == tags
    assert pickle.loads(pickle.dumps(search)).predict(samples).tolist() == tags


def test_no_samples(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    assert CharEmbedTransformer(folder).fit().transform([]).shape == (0, embedder.embedding_dim)


def test_invalid_samples_are_reported(folder: str) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    with pytest.raises(CharEmbedError, match="no model 'absent'"):
        CharEmbedTransformer("absent").fit()
    with pytest.raises(CharEmbedError, match="is not within the text"):
        CharEmbedTransformer(folder).fit().transform([("ab", (0, 9))])
    for sample in ((["ab"], 9), (["ab"], -1), (["ab"], (0, 1)), "He runs", 3, ("ab", 1), (["ab"], "0")):
        with pytest.raises(CharEmbedError, match=r"a sample must be \(text, \(start, end\)\) or \(words, index\), got"):
            CharEmbedTransformer(folder).fit().transform([sample])
    with pytest.raises(NotFittedError):
        CharEmbedTransformer(folder).transform([])


def test_spans_may_be_lists_and_indices_numpy_integers(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    vectors = CharEmbedTransformer(folder).fit_transform([("a b", [2, 3]), (["a", "b"], np.int64(1))])
    assert np.array_equal(vectors[0], embedder.embed(["a b"])[0].vectors[1])
    assert np.array_equal(vectors[1], vectors[0])


def test_samples_may_be_rows_of_a_data_frame(folder: str, embedder) -> None:
    pandas = pytest.importorskip("pandas")
    from charembed.integrations.sklearn import CharEmbedTransformer

    frame = pandas.DataFrame({"text": ["a b", "a b"], "span": [(2, 3), (0, 1)]})
    vectors = CharEmbedTransformer(folder).fit_transform(frame)
    assert np.array_equal(vectors, embedder.embed(["a b"])[0].vectors[::-1])


def test_options_reach_the_embedder(folder: str) -> None:
    from sklearn.base import clone

    from charembed.integrations.sklearn import CharEmbedTransformer

    transformer = clone(CharEmbedTransformer(folder, **EMBEDDER_OPTIONS))
    assert transformer.get_params() == {"model": folder, **EMBEDDER_OPTIONS}
    embedder = pickle.loads(pickle.dumps(transformer.fit())).embedder_
    assert embedder.options == CharEmbedder.from_pretrained(folder, **EMBEDDER_OPTIONS).options
    assert embedder.pretrained.readout == "separator"
    assert transformer.transform([(["a", "b"], 0)]).shape == (1, 4)


def test_defaults_are_those_of_the_embedder(folder: str) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    assert CharEmbedTransformer(folder).fit().embedder_.options == CharEmbedder.from_pretrained(folder).options


@pytest.mark.parametrize(
    ("options", "message"),
    INVALID_EMBEDDER_OPTIONS,
)
def test_invalid_option_is_reported_by_fit(options: dict, message: str, folder: str) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    with pytest.raises(CharEmbedError, match=message):
        CharEmbedTransformer(folder, **options).fit()


def test_changed_model_is_used_after_fitting_again(folder: str, tmp_path: Path) -> None:
    from helpers import small_model

    from charembed.integrations.sklearn import CharEmbedTransformer

    small_model(seed=9).save(tmp_path / "other")
    transformer = CharEmbedTransformer(folder)
    first = transformer.fit_transform([(["a"], 0)])
    transformer.set_params(model=str(tmp_path / "other"))
    assert not np.array_equal(transformer.fit_transform([(["a"], 0)]), first)
    assert len(transformer.get_feature_names_out()) == first.shape[1]


def test_parts(with_words, tmp_path: Path) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    with_words.save(tmp_path / "model")
    samples = [(["The", "doge"], 1), ("a lazy dog", (2, 6))]
    whole = CharEmbedTransformer(str(tmp_path / "model")).fit_transform(samples)
    words = CharEmbedTransformer(str(tmp_path / "model"), parts=["words"]).fit_transform(samples)
    assert whole.shape == (2, 28)
    assert np.array_equal(words, whole[:, 24:])
