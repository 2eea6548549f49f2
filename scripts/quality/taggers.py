"""The taggers of the comparison: train one on the vectors of a task and score it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.errors import import_extra
from charembed.tagging.metrics import METRICS
from charembed.tagging.tagger import BiLSTMCRF, FitConfig, TaggedSentences, fit
from scripts.quality.embedders import EmbeddedSentence, EmbeddedTask
from scripts.quality.linear_tagger import LinearConfig, LinearTagger
from scripts.quality.results import TaggerName
from scripts.quality.tasks import TaskConfig


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


def score_tagger(tagger: TaggerName, embedded: EmbeddedTask, task: TaskConfig, seed: int) -> TaggerScores:
    """Train a tagger on embedded sentences, with the epoch that is best on dev, and score it.

    Args:
        tagger: "probe", a BiLSTM-CRF on a linear layer, "flair", Flair's SequenceTagger, or "linear", a logistic
            regression.
        embedded: sentences and their vectors.
        task: the task.
        seed: seed of the tagger; not used by the linear one.
    """
    # The same settings are recorded with the result.
    settings = tagger_settings(tagger, task)
    if tagger == "probe":
        return _score_probe(embedded, task, seed, settings)
    if tagger == "linear":
        return _score_linear(embedded, task, LinearConfig(**settings))
    import_extra("flair", extra="flair", purpose="Flair's tagger")
    from scripts.quality.flair_tagger import FlairConfig, score_flair_tagger

    # The vectors are stored already: Flair need not keep them too.
    config = FlairConfig(settings["hidden_size"], settings["epochs"], storage="none")
    return TaggerScores(score_flair_tagger(embedded, task.task, seed, config), None)


def _score_probe(embedded: EmbeddedTask, task: TaskConfig, seed: int, settings: dict[str, Any]) -> TaggerScores:
    torch.manual_seed(seed)
    tags = sorted({tag for sentence in embedded.train for tag in sentence.labelled.tags})
    train_vectors = torch.cat([sentence.vectors for sentence in embedded.train])
    encoder = ScaledProjection(train_vectors, settings["projection_size"], settings["dropout"])
    tagger = BiLSTMCRF(encoder, settings["projection_size"], tags, settings["hidden_size"], settings["dropout"])
    train, dev, test = (TaggedSentences(split, [one.labelled.tags for one in split]) for split in embedded)
    # The encoder has no pretrained weights, so it learns at the same rate as the rest.
    config = FitConfig(
        learning_rate=settings["learning_rate"],
        encoder_learning_rate=settings["learning_rate"],
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        seed=seed,
    )
    metric = METRICS[task.task]
    dev_score = fit(tagger, train, dev, metric, config)
    return TaggerScores(metric.compute(tagger.predict(test.sentences), test.tags), dev_score)


def _score_linear(embedded: EmbeddedTask, task: TaskConfig, config: LinearConfig) -> TaggerScores:
    metric = METRICS[task.task]

    def score(sentences: list[EmbeddedSentence]) -> float:
        return metric.compute(tagger.predict(sentences), [sentence.labelled.tags for sentence in sentences])

    tagger = LinearTagger(embedded.train, config)
    tagger.fit(embedded.train)
    dev_score = score(embedded.dev)
    # There is no epoch to choose, so the dev sentences are free to train on.
    tagger.fit(embedded.train + embedded.dev)
    return TaggerScores(score(embedded.test), dev_score)
