"""Train a character language model in both directions: the short road, for those who would rather write Python.

    python scripts/train_language_model.py my_text.txt runs/mine --minutes 60

`charembed train` has all the options; this script shows the few that matter.
"""

import logging

from jsonargparse import auto_cli

from charembed import CharLMConfig, TrainConfig, train
from charembed.text.corpus import CorpusConfig
from charembed.training.schedule import BudgetConfig


def main(
    text: str, output: str, minutes: float = 60.0, hidden_size: int = 512, seed: int = 1, overwrite: bool = False
) -> None:
    """Train a character language model in both directions.

    Args:
        text: file, folder or glob of text to train on; a part of it is held out for validation.
        output: folder of the run; the model is in its subfolder best/.
        minutes: wall-clock budget.
        hidden_size: width of the hidden state; word vectors are twice as wide.
        seed: of everything random.
        overwrite: replace a run that is in the output folder.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = train(
        TrainConfig(
            output=output,
            data=CorpusConfig(train=text),
            model=CharLMConfig(hidden_size=hidden_size),
            budget=BudgetConfig(minutes=minutes),
            seed=seed,
            overwrite=overwrite,
        )
    )
    if result.best is not None:
        print(f"{result.folder / 'best'}: {result.best.bits_per_character:.4f} bits per character")


if __name__ == "__main__":
    auto_cli(main)
