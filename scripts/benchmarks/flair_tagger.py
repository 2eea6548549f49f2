"""Measure an epoch of a Flair tagger's training on charembed's embedding class and on Flair's own, of the same weights.

    python -m scripts.benchmarks.flair_tagger --columns wnut17/train.conll

Three ways: vectors computed in every epoch, vectors stored from an epoch before, and language models trained on. Times
are ratios within one run: epochs are interleaved, and the median is taken. Needs `charembed[flair,onnx]`.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any, Literal

import flair
import torch
from flair.data import Sentence
from flair.datasets import ColumnCorpus
from flair.embeddings import FlairEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger
from flair.training_utils import store_embeddings
from jsonargparse import auto_cli

from charembed import CharEmbedder, CharLMConfig, CharVocab
from charembed.integrations.flair import CharEmbedderEmbeddings, flair_language_model
from charembed.lm.model import DIRECTIONS, BiCharLM
from charembed.pretrained.model_folder import Pretrained

Mode = Literal["none", "cpu", "fine-tuned"]
MEANING = {"none": "computed in every epoch", "cpu": "stored", "fine-tuned": "trained on"}


def _taggers(sentences: list[Sentence], labels: Any, hidden_size: int, fine_tune: bool) -> dict[str, SequenceTagger]:
    """A tagger on each class of embeddings, whose language models have the same weights."""
    torch.manual_seed(1)
    vocab = CharVocab.build([sentence.to_tokenized_string() + "\n" for sentence in sentences], coverage=1.0)
    config = CharLMConfig(embedding_dim=100, hidden_size=hidden_size, vocab_size=len(vocab))
    pretrained = Pretrained(BiCharLM(config), vocab, readout="separator")
    embedder = CharEmbedder(pretrained, threads=torch.get_num_threads())
    theirs: list[Any] = [
        FlairEmbeddings(flair_language_model(pretrained, direction), name=direction, fine_tune=fine_tune)
        for direction in DIRECTIONS
    ]
    both = {"Flair": StackedEmbeddings(theirs), "charembed": CharEmbedderEmbeddings(embedder, fine_tune=fine_tune)}
    return {name: SequenceTagger(embeddings, labels, "ner", hidden_size=256) for name, embeddings in both.items()}


def _epoch(tagger: SequenceTagger, sentences: list[Sentence], mini_batch: int, mode: Mode) -> float:
    """Seconds that an epoch takes."""
    optimizer = torch.optim.SGD([weight for weight in tagger.parameters() if weight.requires_grad], lr=0.01)
    tagger.train()
    began = time.perf_counter()
    for start in range(0, len(sentences), mini_batch):
        batch = sentences[start : start + mini_batch]
        optimizer.zero_grad()
        loss, _ = tagger.forward_loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        store_embeddings(batch, "cpu" if mode == "cpu" else "none")
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main(
    columns: str,
    hidden_sizes: list[int] = [512, 1024],  # noqa: B006 (the form in which a command line shows it)
    modes: list[Mode] = ["none", "cpu", "fine-tuned"],  # noqa: B006
    sentences: int = 300,
    mini_batch: int = 32,
    rounds: int = 3,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Print how long an epoch takes with Flair's class and with ours.

    Args:
        columns: words and entity tags in columns.
        hidden_sizes: widths of the LSTM language models.
        modes: vectors computed in every epoch ("none"), stored ("cpu"), or of models that are trained on.
        sentences: how many, the first ones.
        mini_batch: sentences a step.
        rounds: how many epochs of each, after one that does not count.
        threads: inside PyTorch's operators, and of charembed.
        device: where all of it runs.
    """
    torch.set_num_threads(threads)
    flair.device = torch.device(device)
    path = Path(columns).resolve()
    corpus: Any = ColumnCorpus(path.parent, {0: "text", 1: "ner"}, train_file=path.name, sample_missing_splits=False)
    read = list(corpus.train)[:sentences]
    labels = corpus.make_label_dictionary("ner", add_unk=False)
    print(f"\n{len(read)} sentences, {threads} thread(s), {os.cpu_count()} cores")
    print("| hidden | vectors | Flair, s | charembed, s | times as fast |")
    print("| --- " * 5 + "|")
    for hidden_size in hidden_sizes:
        for mode in modes:
            taggers = _taggers(read, labels, hidden_size, fine_tune=mode == "fine-tuned")
            # Each has its own copies of the sentences: what is stored with a word is stored by name.
            copies = {name: [_copy(sentence) for sentence in read] for name in taggers}
            seconds: dict[str, list[float]] = {name: [] for name in taggers}
            for number in range(rounds + 1):
                for name, tagger in taggers.items():
                    taken = _epoch(tagger, copies[name], mini_batch, mode)
                    if number:
                        seconds[name].append(taken)
            flair_s, ours_s = (statistics.median(seconds[name]) for name in ("Flair", "charembed"))
            print(
                f"| {hidden_size} | {MEANING[mode]} | {flair_s:.2f} | {ours_s:.2f} | {flair_s / ours_s:.2f} |",
                flush=True,
            )


def _copy(sentence: Sentence) -> Sentence:
    made = Sentence([token.text for token in sentence])
    for span in sentence.get_spans("ner"):
        made[span[0].idx - 1 : span[-1].idx].add_label("ner", span.get_label("ner").value)
    return made


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
