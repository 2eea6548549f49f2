"""Train Flair's tagger on the word vectors of a language model, and print its score on test sentences.

    python scripts/train_tagger.py --model en --train train.conll --dev dev.conll --test test.conll

`charembed tag train` trains the tagger of charembed, which needs no Flair. Labelled files are the same for both; this
script needs `pip install 'charembed[flair]'`.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from charembed import CharEmbedError
from charembed.cli.runner import run_script
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.metrics import METRICS
from charembed.tagging.splits import Splits, read_splits
from charembed.tagging.treebank import is_treebank
from charembed.util.checks import MAX_THREADS, check_integer


@dataclass
class TrainTagger:
    """Train Flair's tagger on the word vectors of a language model, and print its score on test sentences."""

    model: str
    """Language model: name of a bundled one, or a model folder."""
    train: str
    """Labelled file to train on."""
    dev: str | None = None
    """Labelled file that chooses the best epoch; a tenth of the training sentences by default."""
    test: str | None = None
    """Labelled file to report the score on; a quarter of the training sentences by default."""
    task: Literal["ner", "upos"] = "ner"
    """ner: named entities in tags of any scheme, scored by entity F1; upos: parts of speech, scored by accuracy."""
    token_column: int = 0
    """Column of the word, from 0; not used for CoNLL-U."""
    tag_column: int = 1
    """Column of the tag, from 0; not used for CoNLL-U."""
    hidden_size: int = 256
    """Width of the tagger's LSTM in each direction."""
    epochs: int = 30
    """Largest number of passes over the training sentences; training may stop earlier."""
    seed: int = 1
    """Seed of the tagger's weights, dropout and order of sentences."""
    threads: int = 1
    """CPU threads."""
    output: str | None = None
    """Folder to save the tagger in; nothing is saved by default. Import charembed.integrations.flair before you load it
    with Flair; the saved tagger contains the language model."""

    def __call__(self) -> None:
        """Train the tagger and print its score."""
        torch.set_num_threads(check_integer("threads", self.threads, maximum=MAX_THREADS))
        columns = Columns(self.token_column, {self.task: "upos" if is_treebank(self.train) else self.tag_column})
        labelled = read_splits(self.train, self.dev, self.test, columns)
        for note in labelled.notes:
            print(note)
        splits, kind = labelled.splits, labelled.kinds[self.task]
        if (kind == "entities") != (self.task == "ner"):
            raise CharEmbedError(
                f"the tags of {self.train} are not those of --task {self.task}: choose another column or task"
            )
        score = self._train(splits)
        print(f"{METRICS[kind]} {score:.2f} on {self.test or 'a quarter of ' + self.train} (test)")

    def _train(self, splits: Splits[LabelledSentence]) -> float:
        # In this order: the first import says which extra to install if Flair is missing.
        from charembed.integrations.flair import CharEmbedderEmbeddings

        # isort: split
        import flair

        from scripts.quality.flair_tagger import FlairConfig, flair_corpus, train_flair_tagger

        flair.set_seed(self.seed)
        config = FlairConfig(hidden_size=self.hidden_size, max_epochs=self.epochs)
        corpus, embeddings = flair_corpus(splits, self.task), CharEmbedderEmbeddings(self.model)
        with tempfile.TemporaryDirectory() as temporary:
            return train_flair_tagger(corpus, embeddings, self.task, Path(self.output or temporary), config)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for scripts.quality, wherever this is called from
    run_script(TrainTagger, renamed={"max_epochs": "epochs"})
