"""Train all directions of a model at the same time, from epoch to epoch of a text."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus
from charembed.dataset.frequent_words import FrequentWords
from charembed.dataset.windows import Epochs
from charembed.dataset.word_marks import WordMarks
from charembed.errors import CharEmbedError
from charembed.lm.generation import generate
from charembed.lm.model import DIRECTIONS, BiCharLM, Direction, tensors_under
from charembed.lm.scoring import Score, score_all
from charembed.pretrained.model_folder import Pretrained
from charembed.training.config import TrainConfig
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.initial_model import make_initial_model
from charembed.training.objective import WordHead
from charembed.training.precision import ComputePrecision
from charembed.training.run_state import WORDS_DIGEST, RunState
from charembed.training.static_vectors import RunVectors
from charembed.training.word_scorer import WordScorer
from charembed.util.mapped_files import check_mapped
from charembed.util.streams import DeviceQueue, side_by_side
from charembed.util.workers import WorkerPool

logger = logging.getLogger(__name__)


def encode_text(config: TrainConfig, folder: Path, initial: Pretrained | None) -> EncodedCorpus:
    """Return the encoded text of a run, with its vocabulary and, in files next to it, the words to predict.

    Args:
        config: the configuration of the run.
        folder: where the encoded text is kept.
        initial: the finished model to start from, whose vocabulary is kept; None for a new one.

    Raises:
        CharEmbedError: the text cannot be read, or is empty.
        OSError: the folder cannot be written.
    """
    vocab = None if initial is None else initial.vocab
    encoded = encode_corpus(config.data, config.vocab, config.seed, folder, vocab)
    if config.objective.words:
        FrequentWords.of(encoded, config.objective.words)
    return encoded


def _frequent_words(encoded: EncodedCorpus, number: int) -> FrequentWords | None:
    """Return the words to predict; None for none.

    Raises:
        CharEmbedError: the text has too few different words.
    """
    if not number:
        return None
    frequent = FrequentWords.of(encoded, number)
    if len(frequent.words) < 2:
        raise CharEmbedError("objective.words needs a text with at least two different words: set it to 0")
    logger.info(
        f"predicting words too: {len(frequent.words):,} of them, {frequent.share:.1%} of the words of the training text"
    )
    return frequent


class ModelTrainer:
    """A model with everything that its steps need: the epochs of the text, and a trainer for each direction."""

    def __init__(
        self,
        config: TrainConfig,
        encoded: EncodedCorpus,
        initial: Pretrained | None,
        distributed: DistributedContext,
    ) -> None:
        """
        Args:
            config: the configuration of the run.
            encoded: the text.
            initial: the finished model to start from; None for a new one.
            distributed: the processes that train the model together; on CUDA, each on a GPU of its own.

        Raises:
            CharEmbedError: the text is too short for one window in each lane.
        """
        # Device: each process of a machine has a GPU of its own.
        device = torch.device(config.device)
        if device.type == "cuda" and distributed.is_distributed:
            device = torch.device("cuda", distributed.local_rank)
            torch.cuda.set_device(device)
        self.device = device
        self._seed = config.seed
        self.encoded = encoded
        # A model that is trained further is read as before: taggers may depend on it.
        self._reading: dict[str, Any] = {}
        if initial is not None:
            self._reading = {"readout": initial.readout, "delimiter": initial.delimiter}
        self.static_vectors: RunVectors | None = None
        """Static vectors that become part of the saved models, in the process that saves them."""

        # Model and text.
        model = make_initial_model(config.model, config.directions, config.seed, encoded, initial)
        self.model: BiCharLM = model.to(device)
        options = config.step_options
        self.characters_per_step = options.characters_per_step(distributed.world_size)
        self.frequent = frequent = _frequent_words(encoded, config.objective.words)
        """The words to predict; None if only characters are."""
        self.epochs = Epochs(
            encoded, config.data, config.seed, min_characters=self.characters_per_step, frequent=frequent
        )

        # One trainer for each direction; the pool runs them in parallel, each on one core. On a GPU, each has its own
        # queue, except with several processes, which exchange their gradients in the default one.
        self._pool = WorkerPool()
        directions = () if distributed.is_distributed else config.directions
        self._queues: dict[Direction, DeviceQueue] = {direction: DeviceQueue(device) for direction in directions}
        self._prediction = config.objective.prediction
        self._heads = {} if frequent is None else self._make_heads(frequent)
        self._trainers: dict[Direction, DirectionTrainer] = {
            direction: DirectionTrainer(
                self.model.direction(direction), direction, options, distributed, self._heads.get(direction)
            )
            for direction in config.directions
        }
        self._start_epoch()

    def _make_heads(self, frequent: FrequentWords) -> dict[Direction, WordHead]:
        """Return new heads that predict words, the same in every process."""
        # Both are always drawn, so that a direction trained alone starts with the head that it has in a pair.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            heads = {name: WordHead(self.model.config.output_size, frequent.counts) for name in DIRECTIONS}
        return {direction: heads[direction].to(self.device) for direction in self.model.directions}

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in the current epoch."""
        return self._any_trainer.steps_per_epoch

    @property
    def precision(self) -> ComputePrecision:
        """Precision of the computation."""
        return self._any_trainer.precision

    @property
    def static_summary(self) -> dict[str, Any] | None:
        """What the report says about the static vectors; None without."""
        return None if self.static_vectors is None else self.static_vectors.summary()

    def initial_state(self, world_size: int) -> RunState:
        """Return the state of a run before its first step.

        Args:
            world_size: number of processes.
        """
        identity = None if self.static_vectors is None else self.static_vectors.identity()
        words: dict[str, str | int] = {} if self.frequent is None else {WORDS_DIGEST: self.frequent.digest()}
        return RunState(self.encoded.digests() | words, world_size, self.precision, static_vectors=identity)

    def check_text(self) -> None:
        """Check that the files of the text are still as long as when they were opened.

        Raises:
            CharEmbedError: one has become shorter.
        """
        self.encoded.check_sizes()
        if self.frequent is not None:
            check_mapped(self.frequent.marks)

    @property
    def _any_trainer(self) -> DirectionTrainer:
        return next(iter(self._trainers.values()))

    def step(self, number: int, lr: float) -> dict[Direction, StepResult]:
        """Take one optimizer step in every direction, at the same time.

        Args:
            number: number of the step in the epoch, from 0.
            lr: learning rate.
        """
        with side_by_side(self._queues.values()):
            return self._pool.map(partial(self._step_direction, number, lr), [*self._trainers])

    def _step_direction(self, number: int, lr: float, direction: Direction) -> StepResult:
        with self._queues[direction].active() if direction in self._queues else nullcontext():
            return self._trainers[direction].step(number, lr)

    def advance_epoch(self) -> None:
        """Move to the beginning of the next epoch.

        Raises:
            CharEmbedError: a stream cannot be read, or the text is too short.
        """
        self.epochs.advance()
        self._start_epoch()

    def _start_epoch(self) -> None:
        for trainer in self._trainers.values():
            trainer.start_epoch(self.epochs.text)

    def score(self, characters: int | None = None) -> tuple[dict[Direction, Score], dict[Direction, float]]:
        """Score all directions on the validation text.

        Args:
            characters: number of characters of the text to score; by default all.

        Returns:
            The score of each direction, and the nats per word of each one that predicts words which occur in the text.
        """
        scorers = {direction: self._word_scorer(direction, characters) for direction in self._heads}
        text = self.encoded.valid[:characters]
        scores = score_all(self.model, text, self.encoded.vocab, self._pool, scorers)
        nats = {direction: scorer.nats_per_word for direction, scorer in scorers.items()}
        return scores, {direction: value for direction, value in nats.items() if value is not None}

    def _word_scorer(self, direction: Direction, characters: int | None) -> WordScorer:
        backward, marks = direction == "backward", self._valid_marks[:characters]
        assert self._prediction is not None
        return WordScorer(
            self._heads[direction], marks[::-1] if backward else marks, self._prediction, backward=backward
        )

    @cached_property
    def _valid_marks(self) -> WordMarks:
        """The words of the validation text. Shape: (characters,)"""
        assert self.frequent is not None
        valid = self.encoded.valid
        return self.frequent.marker.mark(valid, np.array([[0, len(valid)]]))

    def sample(self, characters: int, seed: int) -> str:
        """Return text that the model writes: the forward one from its beginning, the backward one from its end."""
        direction = self.model.directions[0]
        lm = self.model.direction(direction)
        text = "".join(islice(generate(lm, self.encoded.vocab, temperature=0.7, seed=seed), characters))
        lm.train()  # generating leaves it in evaluation mode
        return text if direction == "forward" else text[::-1]

    def pretrained(self, provenance: dict[str, Any]) -> Pretrained:
        """Return the model as it is now, to be saved.

        Args:
            provenance: where it comes from.
        """
        static = self.static_vectors
        if static is None:
            return Pretrained(self.model, self.encoded.vocab, provenance=provenance, **self._reading)
        vectors = static.for_model(self.model, self.encoded)
        provenance = provenance | {"static_vectors": self.static_summary}
        return Pretrained(self.model, self.encoded.vocab, provenance=provenance, static=vectors, **self._reading)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, except the text."""
        return {
            f"{direction}.{name}": tensor
            for direction, trainer in self._trainers.items()
            for name, tensor in trainer.tensors().items()
        }

    def restore(self, tensors: dict[str, Tensor], epoch: int, documents: int, precision: ComputePrecision) -> None:
        """Return to an earlier moment.

        Args:
            tensors: what `tensors` returned then.
            epoch: number of the epoch.
            documents: documents of a stream that were read before that epoch (`Epochs.documents`).
            precision: the precision that the run began with, perhaps on another machine.

        Raises:
            CharEmbedError: a stream cannot be read.
        """
        self.epochs.seek(epoch, documents)
        self._start_epoch()
        for direction, trainer in self._trainers.items():
            trainer.load(tensors_under(f"{direction}.", tensors))
            trainer.precision = precision
