"""The taggers of the comparison: train one on the vectors of a task and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from charembed.errors import CharEmbedError, import_extra
from charembed.tagging.fitting import FitConfig, LabelledVectors, fit_network, predict_split
from charembed.tagging.metrics import score_layer
from charembed.tagging.network import NetworkConfig
from charembed.tagging.stored_vectors import Moments
from charembed.tagging.tag_layer import TagLayer
from scripts.quality.embedders import EmbeddedSentence, EmbeddedTask
from scripts.quality.linear_tagger import LinearConfig, LinearTagger
from scripts.quality.results import TaggerName
from scripts.quality.tasks import TaskConfig

Predict = Callable[[list[EmbeddedSentence]], list[list[str]]]
"""Function from sentences to their tags."""


class EmbeddedVectors:
    """The word vectors of embedded sentences, by the number of the sentence."""

    def __init__(self, sentences: Sequence[EmbeddedSentence]) -> None:
        self._sentences = sentences

    def __getitem__(self, number: int) -> Tensor:
        return self._sentences[number].vectors

    def batch(self, numbers: Sequence[int]) -> list[Tensor]:
        return [self[number] for number in numbers]

    def moments(self) -> Moments:
        """Return the mean and the variance of the vectors."""
        return Moments.of(sentence.vectors.numpy() for sentence in self._sentences)


@dataclass(frozen=True)
class TaggerScores:
    """Scores of one trained tagger, in per cent."""

    test: float
    """Score on the test sentences."""
    dev: float | None
    """Score of the chosen epoch on the dev sentences; None where the tagger does not report it."""
    noisy: dict[str, float]
    """Scores on the test sentences with noise, by its rate."""


def tagger_seeds(tagger: TaggerName, seeds: list[int]) -> list[int]:
    """Return the seeds to train a tagger with: [0] for the linear one, which has no seed."""
    return [0] if tagger == "linear" else list(dict.fromkeys(seeds))


def tagger_settings(tagger: TaggerName, task: TaskConfig) -> dict[str, Any]:
    """Return the settings of a tagger on a task, as results files record them."""
    if tagger == "flair":
        return {"epochs": task.flair_epochs, "hidden_size": 256}
    if tagger == "linear":
        return asdict(LinearConfig())
    return {
        "epochs": task.epochs,
        "projection_size": 256,
        "hidden_size": 128,
        "dropout": 0.3,
        "learning_rate": 0.002,
        "batch_size": 32,
    }


def score_tagger(
    tagger: TaggerName,
    embedded: EmbeddedTask,
    noisy_test: dict[str, list[EmbeddedSentence]],
    task: TaskConfig,
    seed: int,
) -> TaggerScores:
    """Train a tagger on embedded sentences, with the epoch that is best on dev, and score it.

    Args:
        tagger: "probe", a BiLSTM-CRF on a linear layer, "flair", Flair's SequenceTagger, or "linear", a logistic
            regression.
        embedded: sentences and their vectors.
        noisy_test: test sentences with noise and their vectors, by its rate; none for "flair".
        task: the task.
        seed: seed of the tagger; not used by the linear one.
    """
    if tagger == "probe-0.1":
        raise CharEmbedError("the probe of earlier versions is gone: choose rows in the results file, or train probe")
    # The same settings are recorded with the result.
    settings = tagger_settings(tagger, task)
    if tagger == "flair":
        import_extra("flair", extra="flair", purpose="Flair's tagger")
        from scripts.quality.flair_tagger import FlairConfig, score_flair_tagger

        # The vectors are stored already: Flair need not keep them too.
        config = FlairConfig(settings["hidden_size"], settings["epochs"], storage="none")
        return TaggerScores(score_flair_tagger(embedded, task.task, seed, config), None, {})
    if tagger == "linear":
        predict, dev_score = _train_linear(embedded, task, settings)
    else:
        predict, dev_score = _train_probe(embedded, task, seed, settings)
    noisy_scores = {rate: _score(predict, sentences, task) for rate, sentences in noisy_test.items()}
    return TaggerScores(_score(predict, embedded.test, task), dev_score, noisy_scores)


def _score(predict: Predict, sentences: list[EmbeddedSentence], task: TaskConfig) -> float:
    return score_layer(task.kind, predict(sentences), [sentence.tags for sentence in sentences]).score


def _train_probe(
    embedded: EmbeddedTask, task: TaskConfig, seed: int, settings: dict[str, Any]
) -> tuple[Predict, float]:
    """Return the function that predicts with the trained tagger, and its score on dev."""
    (name,) = embedded.train[0].labelled.tags
    layer = TagLayer.of(name, task.kind, [sentence.labelled for sentence in embedded.train])
    config = NetworkConfig(
        embedded.train[0].vectors.shape[1],
        projection_size=settings["projection_size"],
        hidden_size=settings["hidden_size"],
        dropout=settings["dropout"],
    )
    epochs = settings["epochs"]
    fit = FitConfig(epochs, epochs, settings["batch_size"], settings["learning_rate"], seed)  # no early stop
    moments = EmbeddedVectors(embedded.train).moments()
    fitter = fit_network(config, [layer], _with_vectors(embedded.train), _with_vectors(embedded.dev), moments, fit)

    def predict(sentences: list[EmbeddedSentence]) -> list[list[str]]:
        return [tags[name] for tags in predict_split(fitter.network, _with_vectors(sentences))]

    return predict, fitter.best_epoch.dev


def _with_vectors(sentences: list[EmbeddedSentence]) -> LabelledVectors:
    return LabelledVectors([sentence.labelled for sentence in sentences], EmbeddedVectors(sentences))


def _train_linear(embedded: EmbeddedTask, task: TaskConfig, settings: dict[str, Any]) -> tuple[Predict, float]:
    """Return the function that predicts with the trained tagger, and its score on dev."""
    tagger = LinearTagger(embedded.train, LinearConfig(**settings))
    tagger.fit(embedded.train)
    dev_score = _score(tagger.predict, embedded.dev, task)
    # There is no epoch to choose, so the dev sentences are free to train on.
    tagger.fit(embedded.train + embedded.dev)
    return tagger.predict, dev_score
