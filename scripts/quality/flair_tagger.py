"""Train Flair's sequence tagger, on the embeddings of a model or on stored vectors."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flair import set_seed
from flair.data import Corpus, Sentence
from flair.embeddings.base import TokenEmbeddings, register_embeddings
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer

from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.splits import Splits
from charembed.tagging.tag_schemes import entity_spans
from scripts.quality.embedders import EmbeddedTask, only_tags
from scripts.quality.tasks import Task


@dataclass(frozen=True)
class FlairConfig:
    """Settings of Flair's tagger."""

    hidden_size: int = 256
    """Width of the BiLSTM in each direction."""
    max_epochs: int = 30
    """Largest number of passes over the training sentences; training stops when dev no longer improves."""
    storage: Literal["none", "cpu"] = "cpu"
    """Whether Flair keeps the vectors of words between epochs."""


def flair_sentence(labelled: LabelledSentence, task: Task) -> Sentence:
    """Convert a labelled sentence to Flair's class."""
    sentence = Sentence(labelled.words)
    if task == "ner":
        for start, end, kind in entity_spans(only_tags(labelled)):
            sentence[start:end].add_label(task, kind)
    else:
        for token, tag in zip(sentence, only_tags(labelled), strict=True):
            token.add_label(task, tag)
    return sentence


def flair_corpus(splits: Splits[LabelledSentence], task: Task) -> Corpus[Sentence]:
    """Convert the splits of a task to Flair's class, in their order."""
    train, dev, test = ([flair_sentence(labelled, task) for labelled in split] for split in splits)
    return Corpus(train=train, dev=dev, test=test, name=task)  # type: ignore[arg-type]


def train_flair_tagger(
    corpus: Corpus[Sentence], embeddings: TokenEmbeddings, task: Task, folder: Path, config: FlairConfig
) -> float:
    """Train Flair's tagger with the settings of Akbik et al. (2018), and keep the epoch that is best on dev.

    Args:
        corpus: labelled sentences.
        embeddings: embeddings of their tokens.
        task: kind of the labels; only entities use a CRF.
        folder: folder that Flair writes to.
        config: settings.

    Returns:
        The score on the test sentences, in per cent.
    """
    # SGD with a learning rate of 0.1 that is halved when dev stops improving, as in the paper.
    labels = corpus.make_label_dictionary(label_type=task, add_unk=False)
    # Flair cannot score a tag that it does not know; one that train lacks is not learnt, and counts as an error.
    for split in (corpus.dev, corpus.test):
        for sentence in split:  # type: ignore[union-attr]
            for label in sentence.get_labels(task):
                labels.add_item(label.value)
    tagger = SequenceTagger(
        hidden_size=config.hidden_size,
        embeddings=embeddings,
        tag_dictionary=labels,
        tag_type=task,
        use_crf=task == "ner",
    )
    result = ModelTrainer(tagger, corpus).train(
        folder,
        learning_rate=0.1,
        mini_batch_size=32,
        max_epochs=config.max_epochs,
        embeddings_storage_mode=config.storage,
        write_weights=False,
    )
    return 100 * float(result["test_score"])


@register_embeddings
class StoredEmbeddings(TokenEmbeddings):
    """Embeddings that return the vectors stored in a sentence's metadata."""

    name = "stored"

    def __init__(self, width: int) -> None:
        """
        Args:
            width: dimensions of the vectors.
        """
        super().__init__()
        self._width = width

    @property
    def embedding_length(self) -> int:
        return self._width

    @property
    def embedding_type(self) -> str:
        return "word-level"

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        for sentence in sentences:
            for token, vector in zip(sentence, sentence.get_metadata("vectors"), strict=True):
                token.set_embedding(self.name, vector)
        return sentences

    def to_params(self) -> dict[str, Any]:
        return {"width": self._width}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> StoredEmbeddings:
        return cls(**params)


def score_flair_tagger(embedded: EmbeddedTask, task: Task, seed: int, config: FlairConfig) -> float:
    """Train Flair's tagger on embedded sentences, and return its test score in per cent."""
    set_seed(seed)
    corpus = flair_corpus(Splits(*([sentence.labelled for sentence in split] for split in embedded)), task)
    # The vectors travel with the sentences; Flair shuffles both together.
    for flair_split, split in zip((corpus.train, corpus.dev, corpus.test), embedded, strict=True):
        for number, sentence in enumerate(split):
            flair_split[number].add_metadata("vectors", sentence.vectors)  # type: ignore[index]
    embeddings = StoredEmbeddings(embedded.train[0].vectors.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        return train_flair_tagger(corpus, embeddings, task, Path(folder), config)
