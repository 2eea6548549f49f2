"""Train a character language model in both directions, from Python.

    python scripts/train_language_model.py my_text.txt runs/mine --minutes 60

This script shows the most important options; `charembed train` has all of them.
"""

from charembed import CharLMConfig, TrainConfig, train
from charembed.cli.runner import run_script
from charembed.text.corpus import CorpusConfig
from charembed.training.schedule import BudgetConfig


def main(
    text: str, output: str, minutes: float = 60.0, hidden_size: int = 512, seed: int = 1, overwrite: bool = False
) -> None:
    """Train a character language model in both directions.

    Args:
        text: File, folder or glob with the text to train on; a part of it is held out for validation
        output: Folder of the run; its subfolder best/ contains the model
        minutes: Wall-clock budget in minutes
        hidden_size: Width of the hidden state; word vectors have twice as many dimensions
        seed: Seed of everything random
        overwrite: Replace a run in the output folder
    """
    # A run that was interrupted resumes when the script is started again.
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
    if result.best is not None:  # None before the first validation
        print(f"{result.folder / 'best'}: {result.best.bits_per_character:.4f} bits per character")


if __name__ == "__main__":
    run_script(main, as_positional=True)
