"""scikit-learn: words in their texts before a classifier."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_vectors
from sklearn.exceptions import NotFittedError

from charembed import CharEmbedError


@pytest.fixture
def folder(embedder, tmp_path: Path) -> str:
    embedder.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_each_sample_is_a_word_in_its_text(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    words, text = ["two", "words", "two"], "The fox, the dog."
    samples = [(words, 2), (text, (4, 7)), (words, 0), (text, (0, 3)), (words, 2), ([text], 0)]
    found = CharEmbedTransformer(folder).fit_transform(samples)
    of_words, of_text, alone = embedder.embed([words, (text, [(4, 7), (0, 3)]), [text]])
    rows = [of_words.vectors[2], of_text.vectors[0], of_words.vectors[0], of_text.vectors[1], of_words.vectors[2]]
    assert_same_vectors(found, np.stack([*rows, alone.vectors[0]]), [str(sample) for sample in samples])


def test_in_a_pipeline_that_is_cloned_searched_and_pickled(folder: str) -> None:
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    from charembed.integrations.sklearn import CharEmbedTransformer

    sentences = [["the", "fox", "runs"], ["a", "dog", "jumps"], ["the", "dog", "runs"], ["a", "fox", "jumps"]]
    samples = [(words, number) for words in sentences for number in range(3)]
    kinds = ["DET", "NOUN", "VERB"] * 4
    pipeline = clone(make_pipeline(CharEmbedTransformer(folder), LogisticRegression()))
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 100.0]}, cv=2).fit(samples, kinds)
    assert search.predict(samples).tolist() == kinds
    assert pickle.loads(pickle.dumps(search)).predict(samples).tolist() == kinds


def test_no_words(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    assert CharEmbedTransformer(folder).fit().transform([]).shape == (0, embedder.embedding_dim)


def test_bad_input(folder: str) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    with pytest.raises(CharEmbedError, match="no model 'absent'"):
        CharEmbedTransformer("absent").fit()
    with pytest.raises(CharEmbedError, match="is not within the text"):
        CharEmbedTransformer(folder).fit().transform([("ab", (0, 9))])
    for sample in ((["ab"], 9), (["ab"], -1), (["ab"], (0, 1)), "He runs", 3, ("ab", 1), (["ab"], "0")):
        with pytest.raises(CharEmbedError, match=r"a sample is \(text, \(start, end\)\) or \(words, number\), got"):
            CharEmbedTransformer(folder).fit().transform([sample])
    with pytest.raises(NotFittedError):
        CharEmbedTransformer(folder).transform([])


def test_spans_as_lists_and_numbers_of_numpy(folder: str, embedder) -> None:
    from charembed.integrations.sklearn import CharEmbedTransformer

    found = CharEmbedTransformer(folder).fit_transform([("a b", [2, 3]), (["a", "b"], np.int64(1))])
    assert np.array_equal(found[0], embedder.embed(["a b"])[0].vectors[1])
    assert np.array_equal(found[1], found[0])


def test_another_model_counts_when_it_is_fitted_again(folder: str, tmp_path: Path) -> None:
    from helpers import small_model

    from charembed.integrations.sklearn import CharEmbedTransformer

    small_model(seed=9).save(tmp_path / "other")
    transformer = CharEmbedTransformer(folder)
    first = transformer.fit_transform([(["a"], 0)])
    transformer.set_params(model=str(tmp_path / "other"))
    assert not np.array_equal(transformer.fit_transform([(["a"], 0)]), first)
    assert len(transformer.get_feature_names_out()) == first.shape[1]
