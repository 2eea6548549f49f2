"""Train a sequence tagger on the word vectors of a language model, and print its score on test sentences.

    python scripts/train_tagger.py --model en --train train.conll --dev dev.conll --test test.conll
    python scripts/train_tagger.py --model en --train train.conll --tagger bilstm-crf --fine-tune

Labelled files are CoNLL columns (one word and its tag per line, a blank line after each sentence) or CoNLL-U, plain or
compressed (.gz, .xz, .bz2). Two taggers: Flair's SequenceTagger (default, needs `pip install 'charembed[flair]'`), and
a BiLSTM-CRF in plain PyTorch (needs `pip install 'charembed[crf]'`).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from charembed import CharEmbedder, CharEmbedError, WordEncoder
from charembed.cli.runner import run_script
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.metrics import METRICS, score_layer
from charembed.tagging.splits import Splits, read_splits
from charembed.tagging.tag_schemes import LayerKind
from charembed.tagging.tagger import BiLSTMCRF, FitConfig, TaggedSentences, fit
from charembed.tagging.treebank import is_treebank


@dataclass
class TrainTagger:
    """Train a tagger on the word vectors of a language model, and print its score on test sentences."""

    model: str
    """Language model: name of a bundled one, or a model folder."""
    train: str
    """Labelled file to train on."""
    dev: str | None = None
    """Labelled file that chooses the best epoch; a tenth of the training sentences by default."""
    test: str | None = None
    """Labelled file to report the score on; a quarter of the training sentences by default."""
    tagger: Literal["flair", "bilstm-crf"] = "flair"
    """Flair's SequenceTagger, or a BiLSTM-CRF in plain PyTorch."""
    task: Literal["ner", "upos"] = "ner"
    """ner: named entities in tags of any scheme, scored by entity F1; upos: parts of speech, scored by accuracy."""
    token_column: int = 0
    """Column of the word, from 0; not used for CoNLL-U."""
    tag_column: int = 1
    """Column of the tag, from 0; not used for CoNLL-U."""
    hidden_size: int = 256
    """Width of the tagger's LSTM in each direction."""
    epochs: int | None = None
    """Passes over the training sentences; 30 for Flair, which may stop earlier, 15 for the BiLSTM-CRF by default."""
    seed: int = 1
    """Seed of the tagger's weights, dropout and order of sentences."""
    threads: int = 1
    """CPU threads."""
    output: str | None = None
    """With flair: folder to save the tagger in; nothing is saved by default. Import charembed.integrations.flair before
    you load it with Flair; the saved tagger contains the language model."""
    fine_tune: bool = False
    """With bilstm-crf: also train the language model, at a tenth of the learning rate."""
    dropout: float = 0.3
    """With bilstm-crf: probability of dropping units of the LSTM's input and output."""
    learning_rate: float = 0.002
    """With bilstm-crf: initial learning rate of Adam, which decreases linearly to zero."""
    batch_size: int = 32
    """With bilstm-crf: sentences per step."""

    def __call__(self) -> None:
        """Train the tagger and print its score."""
        torch.set_num_threads(self.threads)
        columns = Columns(self.token_column, {self.task: "upos" if is_treebank(self.train) else self.tag_column})
        labelled = read_splits(self.train, self.dev, self.test, columns)
        for note in labelled.notes:
            print(note)
        splits, kind = labelled.splits, labelled.kinds[self.task]
        if (kind == "entities") != (self.task == "ner"):
            raise CharEmbedError(
                f"the tags of {self.train} are not those of --task {self.task}: choose another column or task"
            )
        if self.tagger == "flair":
            test_score = self._train_flair(splits)
        else:
            dev_score, test_score = self._train_bilstm_crf(splits, kind)
            print(f"{METRICS[kind]} {dev_score:.2f} on {self.dev or 'a tenth of ' + self.train} (dev)")
        print(f"{METRICS[kind]} {test_score:.2f} on {self.test or 'a quarter of ' + self.train} (test)")

    def _train_flair(self, splits: Splits[LabelledSentence]) -> float:
        # In this order: the first import says which extra to install if Flair is missing.
        from charembed.integrations.flair import CharEmbedderEmbeddings

        # isort: split
        import flair

        from scripts.quality.flair_tagger import FlairConfig, flair_corpus, train_flair_tagger

        if self.fine_tune:
            raise CharEmbedError("--fine-tune works with --tagger bilstm-crf only: choose that, or leave it out")
        flair.set_seed(self.seed)
        config = FlairConfig(hidden_size=self.hidden_size, max_epochs=self.epochs or 30)
        corpus, embeddings = flair_corpus(splits, self.task), CharEmbedderEmbeddings(self.model)
        with tempfile.TemporaryDirectory() as temporary:
            return train_flair_tagger(corpus, embeddings, self.task, Path(self.output or temporary), config)

    def _train_bilstm_crf(self, splits: Splits[LabelledSentence], kind: LayerKind) -> tuple[float, float]:
        if self.output is not None:
            raise CharEmbedError("--output works with --tagger flair only: choose that, or leave it out")
        torch.manual_seed(self.seed)
        # Vectors that training does not change are computed once and cached for later epochs.
        embedder = CharEmbedder.from_pretrained(
            self.model, threads=self.threads, cache_mb=0 if self.fine_tune else 2048
        )
        encoder = WordEncoder(embedder, trainable=self.fine_tune)
        tags = sorted({tag for sentence in splits.train for tag in sentence.tags[self.task]})
        tagger = BiLSTMCRF(encoder, embedder.embedding_dim, tags, self.hidden_size, self.dropout)
        train, dev, test = (
            TaggedSentences([one.text for one in split], [one.tags[self.task] for one in split]) for split in splits
        )
        config = FitConfig(
            learning_rate=self.learning_rate,
            encoder_learning_rate=self.learning_rate / 10,
            batch_size=self.batch_size,
            epochs=self.epochs or 15,
            seed=self.seed,
        )
        dev_score = fit(tagger, train, dev, kind, config)
        return dev_score, score_layer(kind, tagger.predict(test.sentences), test.tags).score


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for scripts.quality, wherever this is called from
    run_script(TrainTagger, renamed={"max_epochs": "epochs"})
