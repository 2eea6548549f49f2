"""Train the network of a tagger: epochs, the best of them, checkpoints."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from charembed.errors import CharEmbedError
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.metrics import LayerScores, score_layer
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.stored_vectors import Moments, SentenceVectors
from charembed.tagging.tag_layer import TagLayer
from charembed.util.checks import check_integer, check_seed
from charembed.util.files import atomic_write
from charembed.util.sealed_tensors import check_sealed, seal_tensors

logger = logging.getLogger(__name__)

MAX_GRADIENT_NORM = 5.0
POOL_BATCHES = 16
"""Number of batches whose sentences are sorted by length together."""
STEPS = 1500
"""Number of optimizer steps for which the default number of epochs is enough."""
MIN_EPOCHS, MAX_EPOCHS = 6, 40
"""Limits of the default number of epochs."""
PREDICT_BATCH = 64
"""Sentences that are tagged together."""


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained."""

    epochs: int | None = None
    """Passes over the training sentences; enough for 1,500 steps by default, at least 6 and at most 40."""
    patience: int = 8
    """Epochs without a better score on dev after which training stops early."""
    batch_size: int = 32
    """Sentences per step."""
    learning_rate: float = 0.002
    """Initial learning rate of Adam, which decreases linearly to zero."""
    seed: int = 1
    """Seed of the weights, dropout and the order of the sentences."""

    def __post_init__(self) -> None:
        for name in ("patience", "batch_size", *([] if self.epochs is None else ["epochs"])):
            check_integer(name, getattr(self, name))
        if not 0 < self.learning_rate < 1:
            raise CharEmbedError(f"learning_rate must be between 0 and 1, got {self.learning_rate}")
        check_seed(self.seed)

    def epochs_for(self, sentences: int) -> int:
        """Return the number of epochs for a number of training sentences."""
        if self.epochs is not None:
            return self.epochs
        steps = -(-sentences // self.batch_size)
        return min(MAX_EPOCHS, max(MIN_EPOCHS, round(STEPS / steps)))


@dataclass(frozen=True)
class LabelledVectors:
    """Sentences of a split with their word vectors."""

    sentences: Sequence[LabelledSentence]
    """Sentences of at least one word."""
    vectors: SentenceVectors
    """The vectors, by the number of the sentence."""


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Negative log-likelihood of a training sentence, in nats, mean over the epoch."""
    dev: float
    """Score on dev, in per cent; with several layers, the mean of theirs."""
    seconds: float
    """Time that the epoch took, with the score on dev."""


class Fitter:
    """Trains a network with Adam and keeps the weights of the epoch with the best score on dev.

    Every epoch seeds its own random numbers, so a run that resumes from a checkpoint repeats what an uninterrupted run
    would have done, bit for bit on the same machine.
    """

    def __init__(
        self,
        network: TaggerNetwork,
        train: LabelledVectors,
        dev: LabelledVectors,
        config: FitConfig,
        *,
        language_model: nn.Module | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """
        Args:
            network: the network; it knows all tags of `train`.
            train: sentences to train on.
            dev: sentences that choose the best epoch.
            config: settings.
            language_model: the language models if they are trained too, at a tenth of the learning rate.
            checkpoint: file for the state of training after each epoch; none by default. If it exists, training
                resumes from it.
        """
        self.network, self._train, self._dev, self._config = network, train, dev, config
        self._language_model = language_model
        self._modules = nn.ModuleDict({"network": network})
        if language_model is not None:
            self._modules["language_model"] = language_model
        self._path = checkpoint
        groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "factor": 1.0}]
        if language_model is not None:
            trained = [weight for weight in language_model.parameters() if weight.requires_grad]
            groups.append({"params": trained, "factor": 0.1})
        self._optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
        self.epochs = config.epochs_for(len(train.sentences))
        self.curve: list[Epoch] = []
        self._best: dict[str, Tensor] = {}
        self._targets = _targets(network, train.sentences)

    @property
    def best_epoch(self) -> Epoch:
        """The epoch with the best score on dev, the earliest of equals."""
        return max(self.curve, key=lambda epoch: epoch.dev)

    def fit(self) -> None:
        """Train, and load the weights of the best epoch into the network.

        Raises:
            CharEmbedError: the checkpoint is of another network, or the loss is not finite.
        """
        if self._path is not None and self._path.exists():
            self._resume(self._path)
        # Do not change the random numbers of the caller.
        with (
            torch.random.fork_rng(devices=[]),
            tqdm(total=self.epochs, initial=len(self.curve), unit="epoch", leave=False, disable=None) as progress,
        ):
            while len(self.curve) < self.epochs and not self._is_out_of_patience():
                epoch = self._run_epoch(len(self.curve) + 1)
                self.curve.append(epoch)
                if self.best_epoch is epoch:
                    self._best = {name: tensor.clone() for name, tensor in self._modules.state_dict().items()}
                if self._path is not None:
                    self._save(self._path)
                progress.update()
                progress.set_postfix_str(scores := f"dev {epoch.dev:.2f}, best {self.best_epoch.dev:.2f}")
                if progress.disable:  # log files show no bar
                    logger.info(f"epoch {epoch.epoch} of at most {self.epochs}: {scores}")
        self._modules.load_state_dict(self._best)
        self._modules.eval()

    def _is_out_of_patience(self) -> bool:
        return bool(self.curve) and len(self.curve) - self.best_epoch.epoch >= self._config.patience

    def _run_epoch(self, number: int) -> Epoch:
        start = time.perf_counter()
        torch.manual_seed(self._config.seed * 1000 + number)
        rng = random.Random(f"{self._config.seed} {number}")
        lengths = [len(sentence.words) for sentence in self._train.sentences]
        batches = random_batches(lengths, self._config.batch_size, rng)
        step = (number - 1) * len(batches)

        # One pass over the training sentences, with a linearly decreasing learning rate.
        self._modules.train()
        total = 0.0
        for batch in tqdm(batches, f"epoch {number}", unit="batch", leave=False, disable=None):
            for group in self._optimizer.param_groups:
                rate = self._config.learning_rate * (1 - step / (self.epochs * len(batches)))
                group["lr"] = rate * group["factor"]
            self._optimizer.zero_grad()
            tags = [[layer_targets[k] for k in batch] for layer_targets in self._targets]
            loss = self.network.loss(self._train.vectors.batch(batch), tags)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._modules.parameters(), MAX_GRADIENT_NORM)
            self._optimizer.step()
            step += 1
            total += loss.item() * len(batch)
        if not total < float("inf"):  # also NaN
            raise CharEmbedError("the loss is not finite: lower the learning rate")

        scores = score_split(self.network, self._dev)
        mean = sum(layer.score for layer in scores.values()) / len(scores)
        return Epoch(number, total / len(lengths), mean, time.perf_counter() - start)

    def _save(self, path: Path) -> None:
        """Write the state after an epoch, from which the next one can start."""
        tensors = {f"last.{name}": tensor for name, tensor in self._modules.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # safetensors writes no shared storage
        atomic_write(path, seal_tensors(tensors, {"curve": json.dumps([asdict(epoch) for epoch in self.curve])}))

    def _resume(self, path: Path) -> None:
        """Return to the state of a checkpoint; if it is damaged, training starts over.

        Raises:
            CharEmbedError: the checkpoint is of another network.
        """
        try:
            check_sealed(path)
        except (ValueError, OSError) as error:
            logger.warning(f"{path} cannot be used: {error}; starting with the first epoch")
            return
        self._restore(path)

    def _restore(self, path: Path) -> None:
        """Read the state that `_save` wrote; raise a CharEmbedError if it is that of another network."""
        try:
            # Copies: in the file, which the library maps, tensors are not aligned.
            tensors = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
            with safetensors.safe_open(path, framework="pt") as file:
                self.curve = [Epoch(**epoch) for epoch in json.loads(file.metadata()["curve"])]
            self._modules.load_state_dict(_under("last.", tensors))
            self._best = _under("best.", tensors)
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under("optimizer.", tensors).items():
                number, _, key = name.partition(".")
                state.setdefault(int(number), {})[key] = tensor
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CharEmbedError(f"checkpoint {path} cannot be read: {error}; start over with --overwrite") from error


def fit_network(
    architecture: NetworkConfig,
    layers: Sequence[TagLayer],
    train: LabelledVectors,
    dev: LabelledVectors,
    moments: Moments,
    config: FitConfig,
    *,
    language_model: nn.Module | None = None,
    checkpoint: Path | None = None,
) -> Fitter:
    """Train a new network, with the weights of the seed in `config`.

    Args:
        architecture: architecture of the network.
        layers: its tags.
        train: sentences to train on.
        dev: sentences that choose the best epoch.
        moments: mean and variance of the vectors of the training words.
        config: settings.
        language_model: as for `Fitter`.
        checkpoint: as for `Fitter`.

    Returns:
        The trained network and its learning curve.

    Raises:
        CharEmbedError: the checkpoint cannot be read or the loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = TaggerNetwork(architecture, layers)
    network.set_scale(torch.from_numpy(moments.mean), moments.variance)
    fitter = Fitter(network, train, dev, config, language_model=language_model, checkpoint=checkpoint)
    fitter.fit()
    return fitter


def predict_split(network: TaggerNetwork, split: LabelledVectors) -> list[dict[str, list[str]]]:
    """Return the predicted tags of each sentence of a split, by layer."""
    predicted: list[dict[str, list[str]]] = [{} for _ in split.sentences]
    # Sentences of similar length together, which need little padding.
    order = sorted(range(len(predicted)), key=lambda k: len(split.sentences[k].words))
    with torch.inference_mode():
        for batch in _chunks(order, PREDICT_BATCH):
            for k, tags in zip(batch, network.predict(split.vectors.batch(batch)), strict=True):
                predicted[k] = tags
    return predicted


def score_split(
    network: TaggerNetwork, split: LabelledVectors, predicted: list[dict[str, list[str]]] | None = None
) -> dict[str, LayerScores]:
    """Return the scores of a network on a split, by layer.

    Args:
        network: the network.
        split: the split.
        predicted: what `predict_split` returned, if it is known.
    """
    predicted = predict_split(network, split) if predicted is None else predicted
    return {
        layer.name: score_layer(
            layer.kind,
            [tags[layer.name] for tags in predicted],
            [sentence.tags[layer.name] for sentence in split.sentences],
        )
        for layer in network.layers
    }


def random_batches(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Return numbers of sentences in random batches of similar length, which need little padding.

    Args:
        lengths: length of each sentence in words.
        batch_size: sentences per batch.
        rng: random number generator of the order.
    """
    # Sort by length within random pools, so that batches differ from epoch to epoch.
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for pool in _chunks(order, POOL_BATCHES * batch_size):
        batches += _chunks(sorted(pool, key=lambda number: lengths[number]), batch_size)
    rng.shuffle(batches)
    return batches


def _targets(network: TaggerNetwork, sentences: Iterable[LabelledSentence]) -> list[list[Tensor]]:
    """Return the numbers of the tags of each layer and sentence. Shape: (words,) each"""
    sentences = list(sentences)
    targets = []
    for layer in network.layers:
        ids = layer.ids
        targets.append([torch.tensor([ids[tag] for tag in sentence.tags[layer.name]]) for sentence in sentences])
    return targets


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _chunks(numbers: list[int], size: int) -> Iterator[list[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
