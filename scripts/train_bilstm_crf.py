"""Train a BiLSTM-CRF for named entities in plain PyTorch, on the vectors of a language model.

    python scripts/train_bilstm_crf.py --model runs/mine/best --train train.conll --dev dev.conll --test test.conll

Needs `charembed[crf]`. Columns are as in CoNLL files: a word and a BIO or IO tag a line, a blank line after a sentence.
"""

from __future__ import annotations

import copy
import io
import random
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torchcrf import CRF
from tqdm import trange

from charembed import CharEmbedder, WordEncoder
from charembed.recurrent import LSTM
from charembed.sources import open_binary

Sentence = tuple[list[str], list[str]]
"""Words and their tags."""


class BiLSTMCRF(nn.Module):
    """From sentences to tags (Huang, Xu & Yu 2015)."""

    def __init__(self, encoder: WordEncoder, tags: list[str], hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.tags = tags
        self.dropout = nn.Dropout(dropout)
        self.lstm = LSTM(encoder.output_size, hidden_size, bidirectional=True)
        self.linear = nn.Linear(self.lstm.output_size, len(tags))
        self.crf = CRF(len(tags), batch_first=True)

    def scores(self, words: list[list[str]]) -> tuple[Tensor, Tensor]:
        """Of each tag at each word, and where there is a word. Shape: (batch, words, tags), (batch, words)"""
        vectors, mask = self.encoder(words)
        output, _ = self.lstm(self.dropout(vectors).transpose(0, 1), lengths=mask.sum(dim=1).cpu())
        return self.linear(self.dropout(output)).transpose(0, 1), mask

    def loss(self, sentences: list[Sentence]) -> Tensor:
        """Negative log-likelihood of the tags, the mean over sentences."""
        scores, mask = self.scores([words for words, _ in sentences])
        target = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        for row, (_, tags) in zip(target, sentences, strict=True):
            row[: len(tags)] = torch.tensor([self.tags.index(tag) for tag in tags])
        likelihood: Tensor = self.crf(scores, target, mask=mask, reduction="mean")
        return -likelihood

    @torch.no_grad()
    def predict(self, words: list[list[str]]) -> list[list[str]]:
        """The likeliest tags of each sentence."""
        scores, mask = self.scores(words)
        return [[self.tags[number] for number in path] for path in self.crf.decode(scores, mask=mask)]


def read_columns(path: str, token_column: int, tag_column: int) -> list[Sentence]:
    """The sentences of a CoNLL file, packed or not."""
    sentences: list[Sentence] = [([], [])]
    with io.TextIOWrapper(open_binary(Path(path)), encoding="utf-8") as file:
        for line in file:
            columns = line.split()
            if columns:
                sentences[-1][0].append(columns[token_column])
                sentences[-1][1].append(columns[tag_column])
            elif sentences[-1][0]:
                sentences.append(([], []))
    return [sentence for sentence in sentences if sentence[0]]


def entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """First word, one past the last, and kind of each entity."""
    found, start = set(), 0
    for k, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        if tag.startswith("B-") or tag[2:] != before[2:]:
            if before != "O":
                found.add((start, k, before[2:]))
            start = k
    return found


def entity_f1(model: BiLSTMCRF, sentences: list[Sentence], batch_size: int = 64) -> float:
    """Of whole entities, kind and extent, micro-averaged; in per cent."""
    model.eval()
    right = predicted = wanted = 0
    for start in range(0, len(sentences), batch_size):
        batch = sentences[start : start + batch_size]
        for tags, (_, gold) in zip(model.predict([words for words, _ in batch]), batch, strict=True):
            found, true = entities(tags), entities(gold)
            right, predicted, wanted = right + len(found & true), predicted + len(found), wanted + len(true)
    return 200 * right / max(1, predicted + wanted)


def main(
    model: str,
    train: str,
    dev: str,
    test: str,
    token_column: int = 0,
    tag_column: int = 1,
    fine_tune: bool = False,
    hidden_size: int = 256,
    dropout: float = 0.3,
    learning_rate: float = 0.002,
    batch_size: int = 32,
    epochs: int = 15,
    seed: int = 1,
    threads: int = 2,
) -> None:
    """Train a tagger, keep the epoch that is best on `dev`, and print its entity F1 on `test`.

    Args:
        model: name or folder of the language model.
        train: labelled training file.
        dev: labelled file that chooses the epoch.
        test: labelled file that is scored.
        token_column: column of the word, from 0.
        tag_column: column of the tag, from 0.
        fine_tune: train the language model on too, at a tenth of the learning rate.
        hidden_size: of the tagger's BiLSTM, each direction.
        dropout: of its input and output.
        learning_rate: of Adam; it falls linearly to zero.
        batch_size: sentences a step.
        epochs: how often the training file is read.
        seed: of weights, order and dropout.
        threads: inside PyTorch's operators and while embedding.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    chance = random.Random(seed)
    splits = [read_columns(path, token_column, tag_column) for path in (train, dev, test)]
    tags = sorted({tag for _, tags in splits[0] for tag in tags} | {"O"})
    known = set(tags)
    splits = [[(words, [tag if tag in known else "O" for tag in gold]) for words, gold in split] for split in splits]
    # Vectors that stay the same are computed once and kept for later epochs.
    embedder = CharEmbedder.from_pretrained(model, threads=threads, cache_mb=0 if fine_tune else 2048)
    tagger = BiLSTMCRF(WordEncoder(embedder, trainable=fine_tune), tags, hidden_size, dropout)
    inner = [weight for weight in tagger.encoder.parameters() if weight.requires_grad]
    outer = [weight for name, weight in tagger.named_parameters() if not name.startswith("encoder.")]
    groups: list[dict[str, Any]] = [{"params": outer}, {"params": inner, "lr": learning_rate / 10}]
    optimizer = torch.optim.Adam(groups, lr=learning_rate)
    steps = epochs * -(-len(splits[0]) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    best = (-1.0, tagger.state_dict())
    progress = trange(epochs, unit="epoch")
    for _ in progress:
        tagger.train()
        chance.shuffle(splits[0])
        for start in range(0, len(splits[0]), batch_size):
            optimizer.zero_grad()
            tagger.loss(splits[0][start : start + batch_size]).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        score = entity_f1(tagger, splits[1])
        if score > best[0]:
            best = (score, copy.deepcopy(tagger.state_dict()))
        progress.set_postfix_str(f"dev F1 {score:.2f}, best {best[0]:.2f}")
    tagger.load_state_dict(best[1])
    print(f"entity F1 {entity_f1(tagger, splits[2]):.2f} on {test}, {best[0]:.2f} on {dev}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
