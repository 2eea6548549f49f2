"""Train a BiLSTM-CRF in plain PyTorch, on the vectors of a language model.

    python scripts/train_bilstm_crf.py --model runs/mine/best --train train.conll --dev dev.conll --test test.conll

Needs `charembed[crf]`. Reads CoNLL columns (a word and a tag a line, a blank line after a sentence).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from tqdm import trange

from charembed import CharEmbedder, WordEncoder
from charembed.errors import import_extra
from charembed.recurrent import LSTM
from charembed.tagging.labelled_text import METRICS, Task, read_splits, score

CRF = import_extra("torchcrf", extra="crf", purpose="a BiLSTM-CRF").CRF


class BiLSTMCRF(nn.Module):
    """From sentences to tags (Huang, Xu & Yu 2015)."""

    def __init__(self, encoder: nn.Module, input_size: int, tags: list[str], hidden_size: int, dropout: float) -> None:
        """
        Args:
            encoder: a module from a list of sentences to vectors and mask, as `WordEncoder`.
            input_size: width of the vectors.
            tags: the tags.
            hidden_size: of the BiLSTM, each direction.
            dropout: of its input and output.
        """
        super().__init__()
        self.encoder = encoder
        self.tags = tags
        self._numbers = {tag: number for number, tag in enumerate(tags)}
        self.dropout = nn.Dropout(dropout)
        self.lstm = LSTM(input_size, hidden_size, bidirectional=True)
        self.linear = nn.Linear(self.lstm.output_size, len(tags))
        self.crf = CRF(len(tags), batch_first=True)

    def scores(self, sentences: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Of each tag at each word, and where there is a word. Shape: (batch, words, tags), (batch, words)"""
        vectors, mask = self.encoder(sentences)
        output, _ = self.lstm(self.dropout(vectors).transpose(0, 1), lengths=mask.sum(dim=1).cpu())
        return self.linear(self.dropout(output)).transpose(0, 1), mask

    def loss(self, sentences: Sequence[Any], tags: Sequence[list[str]]) -> Tensor:
        """Negative log-likelihood of the tags, the mean over sentences."""
        scores, mask = self.scores(sentences)
        target = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        for row, wanted in zip(target, tags, strict=True):
            row[: len(wanted)] = torch.tensor([self._numbers[tag] for tag in wanted])
        likelihood: Tensor = self.crf(scores, target, mask=mask, reduction="mean")
        return -likelihood

    @torch.no_grad()
    def predict(self, sentences: Sequence[Any], batch_size: int = 64) -> list[list[str]]:
        """The likeliest tags of each sentence."""
        self.eval()
        found: list[list[str]] = []
        for start in range(0, len(sentences), batch_size):
            scores, mask = self.scores(sentences[start : start + batch_size])
            found += [[self.tags[number] for number in path] for path in self.crf.decode(scores, mask=mask)]
        return found


def batches(lengths: list[int], batch_size: int, chance: random.Random) -> list[list[int]]:
    """Numbers of sentences in random batches of like length, which leave little to be padded.

    Args:
        lengths: of all sentences, in words.
        batch_size: sentences in a batch.
        chance: what draws them.
    """
    order = list(range(len(lengths)))
    chance.shuffle(order)
    found = []
    for start in range(0, len(order), 16 * batch_size):
        near = sorted(order[start : start + 16 * batch_size], key=lambda number: lengths[number])
        found += [near[k : k + batch_size] for k in range(0, len(near), batch_size)]
    chance.shuffle(found)
    return found


Tagged = tuple[Sequence[Any], list[list[str]]]
"""Sentences in the form that an encoder takes, and the tags of each."""


def fit(
    tagger: BiLSTMCRF,
    groups: list[dict[str, Any]],
    train: Tagged,
    dev: Tagged,
    task: Task,
    *,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    seed: int,
) -> float:
    """Train a tagger with Adam and a rate that falls linearly to zero, and leave it as it was after the epoch that is
    best on dev.

    Args:
        tagger: the tagger.
        groups: its weights, as optimisers take them.
        train: to learn from; every tag is one of the tagger's.
        dev: to choose the epoch with.
        task: what is scored.
        learning_rate: the first one.
        batch_size: sentences a step.
        epochs: how often they are read.
        seed: of their order.

    Returns:
        The score on dev.
    """
    chance = random.Random(seed)
    optimizer = torch.optim.Adam(groups, lr=learning_rate)
    steps = epochs * -(-len(train[0]) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    best = (-1.0, tagger.state_dict())
    lengths = [len(tags) for tags in train[1]]
    progress = trange(epochs, unit="epoch", leave=False)
    for _ in progress:
        tagger.train()
        for chosen in batches(lengths, batch_size, chance):
            optimizer.zero_grad()
            loss = tagger.loss([train[0][k] for k in chosen], [train[1][k] for k in chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        reached = score(task, tagger.predict(dev[0]), dev[1])
        if reached > best[0]:
            best = (reached, copy.deepcopy(tagger.state_dict()))
        progress.set_postfix_str(f"dev {METRICS[task]} {reached:.2f}, best {best[0]:.2f}")
    tagger.load_state_dict(best[1])
    return best[0]


def main(
    model: str,
    train: str,
    dev: str | None = None,
    test: str | None = None,
    task: Task = "ner",
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
    """Train a tagger, keep the epoch that is best on `dev`, and print its score on `test`.

    Args:
        model: name or folder of the language model.
        train: labelled training file.
        dev: labelled file that chooses the epoch; a tenth of the training file by default.
        test: labelled file that is scored; a quarter of the training file by default.
        task: named entities (BIO or IO tags) or parts of speech.
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
    splits = read_splits(train, dev, test, token_column, tag_column)
    tags = sorted({tag for sentence in splits.train for tag in sentence.tags})
    # Vectors that stay the same are computed once and kept for later epochs.
    embedder = CharEmbedder.from_pretrained(model, threads=threads, cache_mb=0 if fine_tune else 2048)
    tagger = BiLSTMCRF(WordEncoder(embedder, trainable=fine_tune), embedder.embedding_dim, tags, hidden_size, dropout)
    inner = [weight for weight in tagger.encoder.parameters() if weight.requires_grad]
    outer = [weight for name, weight in tagger.named_parameters() if not name.startswith("encoder.")]
    groups: list[dict[str, Any]] = [{"params": outer}, {"params": inner, "lr": learning_rate / 10}]
    learnt, chooses, scored = (([one.text for one in split], [one.tags for one in split]) for split in splits)
    best = fit(
        tagger,
        groups,
        learnt,
        chooses,
        task,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
    )
    reached = score(task, tagger.predict(scored[0]), scored[1])
    print(f"{METRICS[task]} {reached:.2f} on {test or 'a quarter of ' + train}, {best:.2f} on {dev or 'a tenth'}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
