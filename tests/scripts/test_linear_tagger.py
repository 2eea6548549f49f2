"""The linear tagger against scikit-learn, on features written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.splits import Splits
from scripts.quality.embedders import EmbeddedSentence
from scripts.quality.linear_tagger import LinearConfig, LinearTagger, Whitening
from scripts.quality.taggers import score_tagger
from scripts.quality.tasks import TaskConfig

KINDS = ["O", "B-A", "B-B"]


def sentences(count: int, seed: int) -> list[EmbeddedSentence]:
    """Return sentences whose tags depend on the vectors of the word and of the next one, with some noise."""
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        vectors = generator.normal(size=(generator.integers(1, 6), 5)) * [3, 2, 1, 0.5, 0] + 4
        following = np.append(vectors[1:, 1], 4)
        noise = generator.normal(size=len(vectors))
        tags = [KINDS[number] for number in np.digitize(vectors[:, 0] + following + noise, [7, 10])]
        labelled = LabelledSentence([f"w{number}" for number in range(len(vectors))], {"ner": tags})
        drawn.append(EmbeddedSentence(labelled, torch.from_numpy(vectors).float()))
    return drawn


def features(of: list[EmbeddedSentence], train: list[EmbeddedSentence], axes: int) -> np.ndarray:
    """Return the whitened principal components of the word before, the word and the word after."""
    from sklearn.decomposition import PCA

    pca = PCA(axes, whiten=True).fit(np.concatenate([one.vectors.numpy() for one in train]))
    rows = []
    for one in of:
        components = np.pad(pca.transform(one.vectors.numpy()), ((1, 1), (0, 0)))
        rows += [components[word : word + 3].ravel() for word in range(len(one.vectors))]
    return np.array(rows)


def test_the_tagger_is_the_logistic_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    train, test = sentences(300, seed=1), sentences(200, seed=2)
    config = LinearConfig(axes=3, c=0.1)
    tagger = LinearTagger(train, config)
    tagger.fit(train)
    tags = [tag for sentence in train for tag in sentence.tags]
    # scikit-learn divides by the number of words less one when it whitens, which moves no prediction here.
    reference = LogisticRegression(C=0.1, max_iter=1_000, tol=1e-6).fit(features(train, train, 3), tags)
    expected = reference.predict(features(test, train, 3)).tolist()
    predicted = tagger.predict(test)
    assert [len(of_sentence) for of_sentence in predicted] == [len(sentence.vectors) for sentence in test]
    flat = [tag for of_sentence in predicted for tag in of_sentence]
    assert np.mean([tag == other for tag, other in zip(flat, expected, strict=True)]) > 0.995
    assert set(flat) == set(KINDS)


def test_a_second_fit_starts_where_the_first_ended_and_ends_where_one_from_zero_does() -> None:
    train, more = sentences(200, seed=1), sentences(200, seed=2)
    both = LinearTagger(train, LinearConfig())
    both.fit(train)
    both.fit(more)
    fresh = LinearTagger(train, LinearConfig())
    fresh.fit(more)
    assert both.predict(more) == fresh.predict(more)


def test_axes_without_variance_are_left_out() -> None:
    vectors = torch.randn(1_000, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 1, 2, 0]) - 5
    whitening = Whitening.fit(vectors, 256)
    white = (vectors - whitening.mean) @ whitening.matrix
    assert white.shape[1] == 3
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(3), atol=1e-3, rtol=0)
    assert whitening.matrix[:, 0].abs().argmax() == 0  # descending order of variance


def test_the_score_has_no_seed_and_a_tag_of_dev_alone_is_no_error() -> None:
    train, dev, test = sentences(100, seed=1), sentences(20, seed=2), sentences(100, seed=3)
    dev.append(EmbeddedSentence(LabelledSentence(["w"], {"ner": ["B-NEW"]}), torch.zeros(1, 5)))
    splits = Splits(train, dev, test)
    scores = [score_tagger("linear", splits, {}, TaskConfig("train.conll"), seed) for seed in (0, 1)]
    assert scores[0] == scores[1]
    assert scores[0].dev is not None
    assert 50 < scores[0].test < 100
    assert scores[0].test != pytest.approx(scores[0].dev)
