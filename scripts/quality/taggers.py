"""The taggers of the comparison: train one on the vectors of a task and score it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.errors import import_extra
from charembed.tagging.metrics import score_layer
from charembed.tagging.tagger import BiLSTMCRF, FitConfig, TaggedSentences, fit
from scripts.quality.embedders import EmbeddedSentence, EmbeddedTask
from scripts.quality.linear_tagger import LinearConfig, LinearTagger
from scripts.quality.results import TaggerName
from scripts.quality.tasks import TaskConfig

Predict = Callable[[list[EmbeddedSentence]], list[list[str]]]
"""Function from sentences to their tags."""


class ScaledProjection(nn.Module):
    """Encoder of embedded sentences: center their vectors, divide them by one number, narrow them by a linear layer."""

    def __init__(self, train_vectors: Tensor, projection_size: int, dropout: float) -> None:
        """
        Args:
            train_vectors: vectors of the training words, whose mean becomes 0 and whose mean variance becomes 1.
            projection_size: dimensions of the output.
            dropout: probability of dropping units of the linear layer's input.
        """
        super().__init__()
        self._dropout = dropout
        self.projection = nn.Linear(train_vectors.shape[1], projection_size)
        self._center = train_vectors.mean(dim=0)
        self._scale = float(train_vectors.var(dim=0).mean().sqrt())

    def forward(self, sentences: list[EmbeddedSentence]) -> tuple[Tensor, Tensor]:
        """Return vectors and mask, as `WordEncoder` does."""
        lengths = [len(sentence.vectors) for sentence in sentences]
        # All words of the batch at once; padding comes last.
        words = (torch.cat([sentence.vectors for sentence in sentences]) - self._center) / self._scale
        narrow = self.projection(nn.functional.dropout(words, self._dropout, self.training))
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return pad_sequence(narrow.split(lengths), batch_first=True), mask


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
    torch.manual_seed(seed)
    tags = sorted({tag for sentence in embedded.train for tag in sentence.tags})
    train_vectors = torch.cat([sentence.vectors for sentence in embedded.train])
    encoder = ScaledProjection(train_vectors, settings["projection_size"], settings["dropout"])
    tagger = BiLSTMCRF(encoder, settings["projection_size"], tags, settings["hidden_size"], settings["dropout"])
    train, dev = (TaggedSentences(split, [one.tags for one in split]) for split in (embedded.train, embedded.dev))
    # The encoder has no pretrained weights, so it learns at the same rate as the rest.
    config = FitConfig(
        learning_rate=settings["learning_rate"],
        encoder_learning_rate=settings["learning_rate"],
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        seed=seed,
    )
    dev_score = fit(tagger, train, dev, task.kind, config)
    return tagger.predict, dev_score


def _train_linear(embedded: EmbeddedTask, task: TaskConfig, settings: dict[str, Any]) -> tuple[Predict, float]:
    """Return the function that predicts with the trained tagger, and its score on dev."""
    tagger = LinearTagger(embedded.train, LinearConfig(**settings))
    tagger.fit(embedded.train)
    dev_score = _score(tagger.predict, embedded.dev, task)
    # There is no epoch to choose, so the dev sentences are free to train on.
    tagger.fit(embedded.train + embedded.dev)
    return tagger.predict, dev_score
