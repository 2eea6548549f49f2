"""Train a Flair language model with Flair's own trainer for a given time, for the comparison with ours.

    python -m scripts.quality.train_flair_language_model --train 'en_wiki/train_*.txt.xz' --dev en_wiki/dev.txt.xz \\
      --direction forward --hidden-size 640 --minutes 150 --output runs/flair/forward

The best model so far is OUTPUT/best-lm.pt. When the command is run again, training resumes after the last complete
split. Needs `charembed[flair]`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flair
import torch
from flair.data import Dictionary
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

from charembed import CharVocab
from charembed.cli.runner import run_script
from charembed.lm.model import Direction
from charembed.text.corpus import Corpus, document_texts
from charembed.util.files import atomic_write

BATCH_SIZE, SEQ_LEN = 32, 128
LEARNING_RATE = 20
SPLIT_CHARACTERS = 1_000_000
DEV_BYTES = 150_000


class Clock:
    """Counts optimizer steps and the time between them, except for time in which text is read or scored."""

    def __init__(self, seconds: float = 0.0, steps: int = 0) -> None:
        """
        Args:
            seconds: time of an earlier run.
            steps: steps of an earlier run.
        """
        self.seconds = seconds
        self.steps = steps
        self._last: float | None = None

    @classmethod
    def load(cls, path: Path) -> Clock:
        """Read the clock of a run."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        """Write the clock into a file."""
        atomic_write(path, json.dumps({"seconds": self.seconds, "steps": self.steps}))

    @property
    def characters(self) -> int:
        """Number of characters that were trained on."""
        return self.steps * BATCH_SIZE * SEQ_LEN

    def tick(self, after: Callable[[], None]) -> None:
        """Count a step, then call a function whose time does not count."""
        # After a pause the time since the last step is unknown, so the first step is free.
        now = time.monotonic()
        if self._last is not None:
            self.seconds += now - self._last
        self.steps += 1
        after()
        self._last = time.monotonic()

    def pause(self) -> None:
        """Do not count the time until the next step."""
        self._last = None


def write_corpus(text: str, dev: str, folder: Path) -> tuple[CharVocab, Dictionary]:
    """Write texts in the folder layout that Flair's trainer reads, and return the vocabulary of the training text.

    Args:
        text: training text.
        dev: text to validate and test on.
        folder: folder to write.

    Returns:
        The vocabulary, and the same as Flair's dictionary.
    """
    # Flair's dictionary gets the same characters, so both models predict the same alphabet.
    vocab = CharVocab.build([text])
    dictionary = Dictionary(add_unk=True)
    for character in vocab.characters:
        dictionary.add_item(character)
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(text), SPLIT_CHARACTERS)):
        split = text[start : start + SPLIT_CHARACTERS]
        (folder / "train" / f"split_{number:04}").write_text(split, encoding="utf-8")
    for name in ("valid.txt", "test.txt"):
        (folder / name).write_text(dev, encoding="utf-8")
    return vocab, dictionary


@dataclass(frozen=True)
class FlairRun:
    """A training run of Flair's language model trainer."""

    direction: Direction = "forward"
    """Direction of the model."""
    hidden_size: int = 512
    """Width of its one layer."""
    seed: int = 1
    """Seed of the weights and the order of lines."""
    patience: int = 10
    """Splits without a better model before the learning rate, 20 at first, is divided by four."""
    random_case_flip: bool = True
    """Whether to write one line of a hundred in capitals and one in lower case, as Flair does by default."""

    def train(
        self,
        corpus_folder: Path,
        dictionary: Dictionary,
        output: Path,
        after_step: Callable[[LanguageModel, Clock], None],
    ) -> None:
        """Train until `after_step` raises KeyboardInterrupt, which ends Flair's trainer; resume an earlier run.

        Args:
            corpus_folder: folder that `write_corpus` wrote.
            dictionary: its dictionary.
            output: folder of the run.
            after_step: called with the model and the clock after each step; its time does not count.
        """
        torch.set_num_threads(1)
        flair.set_seed(self.seed)
        forward = self.direction == "forward"
        corpus = TextCorpus(corpus_folder, dictionary, forward, random_case_flip=self.random_case_flip)
        model = LanguageModel(dictionary, is_forward_lm=forward, hidden_size=self.hidden_size, nlayers=1)
        clock = Clock()
        resumed: dict[str, Any] = {}
        if (output / "checkpoint.pt").exists() and (output / "clock.json").exists():
            model, resumed = _load_checkpoint(output / "checkpoint.pt")
            clock = Clock.load(output / "clock.json")
            # Flair resumes its count of splits, but would read the first split again.
            files = corpus.train.files
            corpus.train.files = files[resumed["split"] % len(files) :] + files[: resumed["split"] % len(files)]

        optimizer, trainer = _timed_classes(clock, output, lambda: after_step(model, clock))
        trainer(model, corpus, optimizer=optimizer, **resumed).train(
            output,
            sequence_length=SEQ_LEN,
            mini_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            patience=self.patience,
            checkpoint=True,
            num_workers=0,
        )


def _load_checkpoint(path: Path) -> tuple[LanguageModel, dict[str, Any]]:
    """Return the model of a checkpoint, and the arguments of Flair's trainer that resume from it."""
    checkpoint = LanguageModel.load_checkpoint(path)
    resumed = {name: checkpoint[name] for name in ("epoch", "split", "loss")}
    resumed["optimizer_state"] = checkpoint["optimizer_state_dict"]
    return checkpoint["model"], resumed


def _timed_classes(
    clock: Clock, output: Path, after_step: Callable[[], None]
) -> tuple[type[torch.optim.SGD], type[LanguageModelTrainer]]:
    """Return an optimizer that ticks the clock at each step, and a trainer that pauses and saves it at validations."""

    class TimedSGD(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            clock.tick(after_step)
            return result

    class TimedTrainer(LanguageModelTrainer):
        # Flair writes its checkpoint after each validation; the clock is saved at the same time.
        def evaluate(self, *arguments: Any) -> float:
            clock.pause()
            output.mkdir(parents=True, exist_ok=True)
            clock.save(output / "clock.json")
            return float(super().evaluate(*arguments))  # type: ignore[no-untyped-call]

    return TimedSGD, TimedTrainer


@dataclass
class TrainFlairLanguageModel:
    """Train a Flair language model for some minutes of optimizer steps; reading and validation do not count.

    Training uses batches of 32 windows of 128 characters, SGD with an initial learning rate of 20, and a validation on
    150 kB after each million characters. Everything else, including random changes of case, is Flair's default.
    """

    train: str
    """Text to train on, as for charembed train."""
    dev: str
    """Text to validate on."""
    output: str
    """Folder of the run."""
    direction: Direction = "forward"
    """forward or backward."""
    minutes: float = 60.0
    """Time of all optimizer steps."""
    hidden_size: int = 512
    """Hidden size of the model."""
    patience: int = 4
    """Validations without a better model before the learning rate is divided by four. Flair's default, 10, is too many
    for the validations of a few hours."""
    seed: int = 1
    """Seed of the weights and the order of lines."""

    def __call__(self) -> None:
        """Train the model, and print how far it came."""
        folder = Path(self.output)
        text, dev = ("".join(document_texts(Corpus(source))) for source in (self.train, self.dev))
        _, dictionary = write_corpus(text, dev.encode()[:DEV_BYTES].decode(errors="ignore"), folder / "corpus")
        logging.getLogger("flair").setLevel(logging.INFO)

        def after_step(_: LanguageModel, clock: Clock) -> None:
            if clock.seconds >= 60 * self.minutes:
                raise KeyboardInterrupt

        run = FlairRun(self.direction, self.hidden_size, self.seed, self.patience)
        run.train(folder / "corpus", dictionary, folder, after_step)
        clock = Clock.load(folder / "clock.json")
        print(f"{clock.seconds / 60:.1f} minutes, {clock.characters:,} characters: {folder / 'best-lm.pt'}")


if __name__ == "__main__":
    run_script(TrainFlairLanguageModel)
