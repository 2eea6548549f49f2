"""Train a language model of Flair's with Flair's own trainer, for a number of minutes: what ours is compared with.

    python -m scripts.quality.train_flair_language_model --train 'en_wiki/train_*.txt.xz' --dev en_wiki/dev.txt.xz \\
      --direction forward --hidden_size 640 --minutes 150 --output runs/flair/forward

The best model so far is OUTPUT/best-lm.pt. Run again, it goes on after the last split that it finished. Needs
`charembed[flair]`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flair
import torch
from flair.data import Dictionary
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus
from jsonargparse import auto_cli

from charembed import CharVocab
from charembed.lm.model import Direction
from charembed.text.corpus import Corpus, document_texts
from charembed.util.files import atomic_write

BATCH_SIZE, SEQ_LEN = 32, 128
SPLIT_CHARACTERS = 1_000_000
DEV_BYTES = 150_000


class Clock:
    """Charges the time from one step of the optimiser to the next, unless text was read or scored in between."""

    def __init__(self, seconds: float = 0.0, steps: int = 0) -> None:
        self.seconds = seconds
        self.steps = steps
        self._last: float | None = None

    @property
    def characters(self) -> int:
        """That were read while it ran."""
        return self.steps * BATCH_SIZE * SEQ_LEN

    def tick(self, after: Callable[[], None]) -> None:
        """A step is done; what is called after it is not charged."""
        now = time.monotonic()
        if self._last is not None:
            self.seconds += now - self._last
        self.steps += 1
        after()
        self._last = time.monotonic()

    def pause(self) -> None:
        """Charge nothing until the next step is done."""
        self._last = None


def prepare(text: str, dev: str, folder: Path) -> tuple[CharVocab, Dictionary]:
    """Write the folder layout that Flair's trainer reads, and the alphabet of the text as its dictionary."""
    vocab = CharVocab.build([text])
    dictionary = Dictionary(add_unk=True)
    for character in vocab.characters:
        dictionary.add_item(character)
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(text), SPLIT_CHARACTERS)):
        part = text[start : start + SPLIT_CHARACTERS]
        (folder / "train" / f"split_{number:04}").write_text(part, encoding="utf-8")
    for name in ("valid.txt", "test.txt"):
        (folder / name).write_text(dev, encoding="utf-8")
    return vocab, dictionary


def train_flair(
    corpus_folder: Path,
    dictionary: Dictionary,
    output: Path,
    *,
    direction: Direction,
    hidden_size: int,
    seed: int,
    after_step: Callable[[LanguageModel, Clock], None],
    patience: int = 10,
    random_case_flip: bool = True,
) -> None:
    """Train until `after_step` raises KeyboardInterrupt, which Flair's trainer takes as the wish to end.

    Args:
        corpus_folder: as `prepare` has written it.
        dictionary: its alphabet.
        output: folder of the run.
        direction: of the model.
        hidden_size: of its one layer.
        seed: of the weights and the order of the lines.
        after_step: called with the model and the clock, which stands meanwhile.
        patience: splits without a better model before the learning rate, 20 at first, is quartered.
        random_case_flip: as Flair does by default, write one line of a hundred in capitals and one in small letters.
    """
    torch.set_num_threads(1)
    flair.set_seed(seed)
    forward = direction == "forward"
    corpus = TextCorpus(corpus_folder, dictionary, forward, random_case_flip=random_case_flip)
    checkpoint, times = output / "checkpoint.pt", output / "clock.json"
    clock = Clock()
    resumed: dict[str, Any] = {}
    model = LanguageModel(dictionary, is_forward_lm=forward, hidden_size=hidden_size, nlayers=1)
    if checkpoint.exists() and times.exists():
        found = LanguageModel.load_checkpoint(checkpoint)
        model = found["model"]
        resumed = {name: found[name] for name in ("epoch", "split", "loss")}
        resumed["optimizer_state"] = found["optimizer_state_dict"]
        clock = Clock(**json.loads(times.read_text(encoding="utf-8")))
        # Flair counts on from the split that it had come to, but reads the first one again.
        files = corpus.train.files
        corpus.train.files = files[found["split"] % len(files) :] + files[: found["split"] % len(files)]

    class TimedSGD(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            done = super().step(closure)
            clock.tick(lambda: after_step(model, clock))
            return done

    class TimedTrainer(LanguageModelTrainer):
        def evaluate(self, *arguments: Any) -> float:
            clock.pause()
            output.mkdir(parents=True, exist_ok=True)
            atomic_write(times, json.dumps({"seconds": clock.seconds, "steps": clock.steps}))
            return float(super().evaluate(*arguments))  # type: ignore[no-untyped-call]

    TimedTrainer(model, corpus, optimizer=TimedSGD, **resumed).train(
        output,
        sequence_length=SEQ_LEN,
        mini_batch_size=BATCH_SIZE,
        learning_rate=20,
        patience=patience,
        checkpoint=True,
        num_workers=0,
    )


def main(
    train: str,
    dev: str,
    output: str,
    direction: Direction = "forward",
    minutes: float = 60.0,
    hidden_size: int = 512,
    patience: int = 4,
    seed: int = 1,
) -> None:
    """Train for some minutes of steps: reading and validating are not counted.

    Batches of 32 windows of 128 characters, SGD from a rate of 20, a validation on 150 kB after each million
    characters; everything else, and the changes of case, as Flair has it.

    Args:
        train: text to train on, as for `charembed train`.
        dev: text to validate on.
        output: folder of the run.
        direction: "forward" or "backward".
        minutes: of steps.
        hidden_size: of the model.
        patience: validations without a better model before the learning rate is quartered. Flair's default is 10, which
            is too many for the validations of some hours.
        seed: of weights and order.
    """
    folder = Path(output)
    text, dev_text = ("".join(document_texts(Corpus(source))) for source in (train, dev))
    _, dictionary = prepare(text, dev_text.encode()[:DEV_BYTES].decode(errors="ignore"), folder / "corpus")
    logging.getLogger("flair").setLevel(logging.INFO)

    def after_step(_: LanguageModel, clock: Clock) -> None:
        if clock.seconds >= 60 * minutes:
            raise KeyboardInterrupt

    train_flair(
        folder / "corpus",
        dictionary,
        folder,
        direction=direction,
        hidden_size=hidden_size,
        seed=seed,
        after_step=after_step,
        patience=patience,
    )
    clock = Clock(**json.loads((folder / "clock.json").read_text(encoding="utf-8")))
    print(f"{clock.seconds / 60:.1f} minutes, {clock.characters:,} characters: {folder / 'best-lm.pt'}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
