"""The labelled tasks of the comparison: read their files, embed their sentences."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from charembed import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledSentence, read_labelled
from charembed.tagging.splits import check_splits, divide
from charembed.tagging.tag_schemes import LayerKind
from charembed.tagging.treebank import is_treebank
from scripts.quality.embedders import ComparedEmbedder, EmbeddedSentence, EmbeddedTask
from scripts.quality.noise import add_noise

logger = logging.getLogger(__name__)

Task = Literal["ner", "upos"]
"""Named entities in the tags of any scheme, or parts of speech."""
KINDS: dict[Task, LayerKind] = {"ner": "entities", "upos": "tags"}


@dataclass
class TaskConfig:
    """One column of the table.

    Attributes:
        train: labelled file to train on.
        dev: labelled file that chooses the epoch; a tenth of `train` by default.
        test: labelled file to report the score on; a quarter of `train` by default.
        split: "last" makes the last quarter of the sentences of `train` the test sentences; by default whole documents
            (see `charembed.tagging.splits.divide`).
        task: named entities or parts of speech.
        token_column: column of the word in files of columns, from 0.
        tag_column: column of the tag, from 0.
        epochs: epochs of the probe.
        flair_epochs: largest number of epochs of Flair's tagger.
        train_limit: largest number of sentences to read from `train`, at equal distances; all by default. The vectors
            of all sentences are in memory: with 1,280 dimensions, a million words take 5 GB, and training a tagger as
            much again for `train`.
        dev_limit: the same for `dev`.
        test_noise: shares of characters to change; the tagger is scored on such test sentences too (see
            `scripts.quality.noise`). Not for Flair's tagger.
    """

    train: str
    dev: str | None = None
    test: str | None = None
    split: Literal["last"] | None = None
    task: Task = "ner"
    token_column: int = 0
    tag_column: int = 1
    epochs: int = 15
    flair_epochs: int = 15
    train_limit: int | None = None
    dev_limit: int | None = None
    test_noise: list[float] | None = None

    @property
    def data_settings(self) -> dict[str, Any]:
        """The settings that define the sentences and their tags, for results files."""
        return {key: value for key, value in asdict(self).items() if key not in ("epochs", "flair_epochs")}

    @property
    def kind(self) -> LayerKind:
        """Whether the tags are entities."""
        return KINDS[self.task]

    def read(self, path: Path) -> list[LabelledSentence]:
        """Read a file of the task, with its tags as the only layer."""
        columns = Columns(self.token_column, {self.task: "upos" if is_treebank(path) else self.tag_column})
        labelled = read_labelled(path, columns, {self.task: self.kind})
        for note in labelled.notes:
            logger.info(note)
        return labelled.sentences


@dataclass(frozen=True)
class TaskFiles:
    """The sentences of a task's files, in their order; None for a file that the task lacks."""

    train: list[LabelledSentence]
    dev: list[LabelledSentence] | None
    test: list[LabelledSentence] | None
    noisy_test: dict[str, list[LabelledSentence]] = field(default_factory=dict)
    """Test sentences with noise, by its rate."""


def read_task(task: TaskConfig, labelled: str) -> TaskFiles:
    """Read the files of a task.

    Args:
        task: the task.
        labelled: folder that contains the files.

    Raises:
        CharEmbedError: a file does not exist, a split is empty or there is nothing to learn.
    """
    paths = [None if name is None else Path(labelled, name) for name in (task.train, task.dev, task.test)]
    for path in paths:
        if path is not None and not path.is_file():
            raise CharEmbedError(f"no such file: {path}; set --labelled to the folder of the labelled files")
    train, dev, test = (None if path is None else task.read(path) for path in paths)
    # Check before embedding, which takes much longer.
    train = _thin(train or [], task.train_limit)
    dev = _thin(dev, task.dev_limit) if dev else dev
    if task.split == "last":
        if test is not None:
            raise CharEmbedError("split: last draws the test sentences from train: leave out split or test")
        count = len(train) - len(train) // 4
        train, test = train[:count], train[count:]
    splits = divide(train, dev, test)
    check_splits(splits, task.train)
    noisy_test = {str(rate): add_noise(splits.test, rate) for rate in task.test_noise or []}
    return TaskFiles(train, dev, test, noisy_test)


def _thin(sentences: list[LabelledSentence], limit: int | None) -> list[LabelledSentence]:
    """Return `limit` of the sentences at equal distances: the first ones may be of a single source."""
    if limit is None or limit >= len(sentences):
        return sentences
    if limit < 1:
        raise CharEmbedError(f"train_limit and dev_limit must be at least 1, got {limit}")
    return [sentences[number * len(sentences) // limit] for number in range(limit)]


def embed_task(embedder: ComparedEmbedder, files: TaskFiles) -> EmbeddedTask:
    """Embed whole files, in their order because of contexts across sentences, then divide them into splits."""
    return divide(
        _embed(embedder, files.train),
        None if files.dev is None else _embed(embedder, files.dev),
        None if files.test is None else _embed(embedder, files.test),
    )


def embed_noisy_test(embedder: ComparedEmbedder, files: TaskFiles) -> dict[str, list[EmbeddedSentence]]:
    """Embed the test sentences with noise, by its rate."""
    return {rate: _embed(embedder, sentences) for rate, sentences in files.noisy_test.items()}


def _embed(embedder: ComparedEmbedder, sentences: list[LabelledSentence]) -> list[EmbeddedSentence]:
    vectors = map(torch.from_numpy, embedder.read(sentences))
    return [EmbeddedSentence(*pair) for pair in zip(sentences, vectors, strict=True)]
