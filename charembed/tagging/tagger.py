"""Train a BiLSTM-CRF on word vectors, in plain PyTorch."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import trange

from charembed.errors import import_extra
from charembed.recurrent import LSTM
from charembed.tagging.metrics import METRICS, score_layer
from charembed.tagging.tag_schemes import LayerKind

MAX_GRADIENT_NORM = 5.0
POOL_BATCHES = 16
"""Number of batches whose sentences are sorted by length together."""


class BiLSTMCRF(nn.Module):
    """A sequence tagger: bidirectional LSTM and conditional random field (Huang, Xu & Yu 2015)."""

    def __init__(self, encoder: nn.Module, input_size: int, tags: list[str], hidden_size: int, dropout: float) -> None:
        """
        Args:
            encoder: module from a list of sentences to word vectors and mask, such as `WordEncoder`.
            input_size: dimensions of the word vectors.
            tags: all tags.
            hidden_size: width of the LSTM in each direction.
            dropout: probability of dropping units of the LSTM's input and output.

        Raises:
            MissingExtraError: pytorch-crf is not installed.
        """
        super().__init__()
        torchcrf: Any = import_extra("torchcrf", extra="crf", purpose="a BiLSTM-CRF tagger")
        self.encoder = encoder
        self.tags = tags
        self._tag_ids = {tag: number for number, tag in enumerate(tags)}
        self.dropout = nn.Dropout(dropout)
        self.lstm = LSTM(input_size, hidden_size, bidirectional=True)
        self.linear = nn.Linear(self.lstm.output_size, len(tags))
        # The CRF also scores pairs of neighboring tags, which a classifier of single words ignores.
        self.crf = torchcrf.CRF(len(tags), batch_first=True)

    def emissions(self, sentences: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return the score of each tag at each word, and the mask of words.

        Shape: (batch, words, tags), (batch, words)
        """
        vectors, mask = self.encoder(sentences)
        output, _ = self.lstm(self.dropout(vectors).transpose(0, 1), lengths=mask.sum(dim=1).cpu())
        return self.linear(self.dropout(output)).transpose(0, 1), mask

    def loss(self, sentences: Sequence[Any], tags: Sequence[list[str]]) -> Tensor:
        """Return the negative log-likelihood of the tags, averaged over sentences."""
        scores, mask = self.emissions(sentences)
        # Padding has tag 0, which the mask excludes from the likelihood.
        target = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        for row, sentence_tags in zip(target, tags, strict=True):
            row[: len(sentence_tags)] = torch.tensor([self._tag_ids[tag] for tag in sentence_tags])
        log_likelihood: Tensor = self.crf(scores, target, mask=mask, reduction="mean")
        return -log_likelihood

    @torch.no_grad()
    def predict(self, sentences: Sequence[Any], batch_size: int = 64) -> list[list[str]]:
        """Return the most likely tags of each sentence."""
        self.eval()
        predicted: list[list[str]] = []
        for start in range(0, len(sentences), batch_size):
            scores, mask = self.emissions(sentences[start : start + batch_size])
            predicted += [[self.tags[number] for number in path] for path in self.crf.decode(scores, mask=mask)]
        return predicted


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences and their tags."""

    sentences: Sequence[Any]
    """Sentences in the form that the tagger's encoder takes."""
    tags: list[list[str]]
    """Tags of each sentence."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`."""

    learning_rate: float = 0.002
    """Initial learning rate of Adam, which decreases linearly to zero."""
    encoder_learning_rate: float = 0.0002
    """Initial learning rate of the encoder's weights, if they are trained."""
    batch_size: int = 32
    """Sentences per step."""
    epochs: int = 15
    """Passes over the training sentences."""
    seed: int = 1
    """Seed of the order of the sentences."""


def fit(
    tagger: BiLSTMCRF, train: TaggedSentences, dev: TaggedSentences, kind: LayerKind, config: FitConfig | None = None
) -> float:
    """Train a tagger with Adam and restore the weights of the epoch with the best dev score.

    Args:
        tagger: the tagger; it knows all tags of `train`.
        train: sentences to train on.
        dev: sentences that choose the best epoch.
        kind: whether the tags are entities, which says how to score them.
        config: settings; the defaults if None.

    Returns:
        The best score on dev, in per cent.
    """
    config = config or FitConfig()
    rng = random.Random(config.seed)

    # Adam with two learning rates, each of which decreases linearly.
    encoder = [weight for weight in tagger.encoder.parameters() if weight.requires_grad]
    others = [weight for name, weight in tagger.named_parameters() if not name.startswith("encoder.")]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": encoder, "lr": config.encoder_learning_rate}]
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
    steps = config.epochs * -(-len(train.sentences) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))

    best_score, best_weights = -1.0, tagger.state_dict()
    lengths = [len(tags) for tags in train.tags]
    progress = trange(config.epochs, unit="epoch", leave=False)
    for _ in progress:
        # One pass over the training sentences.
        tagger.train()
        for batch in random_batches(lengths, config.batch_size, rng):
            optimizer.zero_grad()
            loss = tagger.loss([train.sentences[k] for k in batch], [train.tags[k] for k in batch])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(tagger.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()

        # Keep the weights if they are the best so far.
        dev_score = score_layer(kind, tagger.predict(dev.sentences), dev.tags).score
        if dev_score > best_score:
            best_score, best_weights = dev_score, copy.deepcopy(tagger.state_dict())
        progress.set_postfix_str(f"dev {METRICS[kind]} {dev_score:.2f}, best {best_score:.2f}")
    tagger.load_state_dict(best_weights)
    return best_score


def random_batches(lengths: list[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Return indices of sentences in random batches of similar length, which need little padding.

    Args:
        lengths: length of each sentence in words.
        batch_size: sentences per batch.
        rng: random number generator of the order.
    """
    # Sort by length within random pools, so that batches differ from epoch to epoch.
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    pool_size = POOL_BATCHES * batch_size
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lambda index: lengths[index])
        batches += [pool[k : k + batch_size] for k in range(0, len(pool), batch_size)]
    rng.shuffle(batches)
    return batches
