"""Measure an epoch of training a Flair tagger on charembed's embedding class and on Flair's own, with equal weights.

    python -m scripts.benchmarks.flair_tagger --columns wnut17/train.conll

Three modes: vectors computed in every epoch, vectors stored in an earlier epoch, and language models that are trained
too. Epochs of both classes are measured in turn, and medians are printed. Needs `charembed[flair,onnx,dev]`.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import flair
import torch
from flair.data import Sentence
from flair.datasets import ColumnCorpus
from flair.embeddings import FlairEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger
from flair.training_utils import store_embeddings
from tabulate import tabulate

from charembed import CharEmbedder, CharLMConfig, CharVocab
from charembed.cli.runner import run_script
from charembed.integrations.flair import CharEmbedderEmbeddings, flair_language_model
from charembed.lm.model import DIRECTIONS, BiCharLM
from charembed.pretrained.model_folder import Pretrained

Mode = Literal["none", "cpu", "fine-tuned"]
DESCRIPTIONS: dict[Mode, str] = {"none": "computed in every epoch", "cpu": "stored", "fine-tuned": "fine-tuned"}


def _build_taggers(
    sentences: list[Sentence], labels: Any, hidden_size: int, fine_tune: bool
) -> dict[str, SequenceTagger]:
    """Return a tagger on each class of embeddings, whose language models have the same weights."""
    # The separator readout is Flair's: both classes compute the same vectors.
    torch.manual_seed(1)
    vocab = CharVocab.build([sentence.to_tokenized_string() + "\n" for sentence in sentences], coverage=1.0)
    config = CharLMConfig(embedding_dim=100, hidden_size=hidden_size, vocab_size=len(vocab))
    pretrained = Pretrained(BiCharLM(config), vocab, readout="separator")
    flair_embeddings: list[Any] = [
        FlairEmbeddings(flair_language_model(pretrained, direction), name=direction, fine_tune=fine_tune)
        for direction in DIRECTIONS
    ]
    embedder = CharEmbedder(pretrained, threads=torch.get_num_threads())
    classes = {
        "Flair": StackedEmbeddings(flair_embeddings),
        "charembed": CharEmbedderEmbeddings(embedder, fine_tune=fine_tune),
    }
    return {name: SequenceTagger(embeddings, labels, "ner", hidden_size=256) for name, embeddings in classes.items()}


def train_epoch(tagger: SequenceTagger, sentences: list[Sentence], mini_batch: int, mode: Mode) -> float:
    """Train a tagger for one epoch, and return the seconds."""
    optimizer = torch.optim.SGD([weight for weight in tagger.parameters() if weight.requires_grad], lr=0.01)
    tagger.train()
    started = time.perf_counter()
    for start in range(0, len(sentences), mini_batch):
        batch = sentences[start : start + mini_batch]
        optimizer.zero_grad()
        loss, _ = tagger.forward_loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # As Flair's trainer does after each batch: keep the vectors for the next epoch, or free them.
        store_embeddings(batch, "cpu" if mode == "cpu" else "none")
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _copy(sentence: Sentence) -> Sentence:
    """Return a sentence with the same words and entities, and without vectors."""
    copy = Sentence([token.text for token in sentence])
    for span in sentence.get_spans("ner"):
        copy[span[0].idx - 1 : span[-1].idx].add_label("ner", span.get_label("ner").value)
    return copy


@dataclass
class FlairTagger:
    """Measure how long an epoch takes with Flair's embedding class and with charembed's."""

    columns: str
    """File with words and entity tags in columns."""
    hidden_sizes: list[int] = field(default_factory=lambda: [512, 1024])
    """Hidden sizes of the language models."""
    modes: list[Mode] = field(default_factory=lambda: ["none", "cpu", "fine-tuned"])
    """Vectors computed in every epoch (none), stored (cpu), or of language models that are trained too (fine-tuned)."""
    sentences: int = 300
    """Number of sentences, from the beginning of the file."""
    mini_batch: int = 32
    """Sentences per step."""
    rounds: int = 3
    """Number of epochs that are measured, after one that is not."""
    threads: int = 1
    """CPU threads of PyTorch's operators and of charembed."""
    device: str = "cpu"
    """Device of tagger and language models."""

    def __call__(self) -> None:
        """Measure all modes, and print a table."""
        torch.set_num_threads(self.threads)
        flair.device = torch.device(self.device)
        path = Path(self.columns).resolve()
        columns_format = {0: "text", 1: "ner"}
        corpus: Any = ColumnCorpus(path.parent, columns_format, train_file=path.name, sample_missing_splits=False)
        sentences = list(corpus.train)[: self.sentences]
        labels = corpus.make_label_dictionary("ner", add_unk=False)
        rows = []
        for hidden_size in self.hidden_sizes:
            for mode in self.modes:
                taggers = _build_taggers(sentences, labels, hidden_size, fine_tune=mode == "fine-tuned")
                seconds = self._measure(taggers, sentences, mode)
                cells = [f"{seconds['Flair']:.2f}", f"{seconds['charembed']:.2f}"]
                ratio = f"{seconds['Flair'] / seconds['charembed']:.2f}"
                rows.append([str(hidden_size), DESCRIPTIONS[mode], *cells, ratio])
        print(f"\n{len(sentences)} sentences, {self.threads} thread(s), {os.cpu_count()} cores\n")
        headers = ["hidden", "vectors", "Flair, s", "charembed, s", "speed relative to Flair"]
        print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))

    def _measure(self, taggers: dict[str, SequenceTagger], sentences: list[Sentence], mode: Mode) -> dict[str, float]:
        """Return the median seconds of an epoch of each tagger."""
        # Each has its own copies of the sentences: Flair stores vectors with the words, by name.
        copies = {name: [_copy(sentence) for sentence in sentences] for name in taggers}
        seconds: dict[str, list[float]] = {name: [] for name in taggers}
        for number in range(self.rounds + 1):  # the first round warms up
            for name, tagger in taggers.items():
                epoch = train_epoch(tagger, copies[name], self.mini_batch, mode)
                if number:
                    seconds[name].append(epoch)
        return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    run_script(FlairTagger)
