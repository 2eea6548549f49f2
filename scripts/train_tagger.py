"""Train a Flair sequence tagger (BiLSTM-CRF) on charembed vectors, and print its score on the test file.

    python scripts/train_tagger.py --model runs/mine/best --train train.conll --dev dev.conll --test test.conll

Reads CoNLL columns (one token a line, a blank line after a sentence) and CoNLL-U, plain or .gz/.xz/.bz2. Named entities
are scored by entity F1, parts of speech by accuracy. Needs `pip install 'charembed[flair]'`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli

from charembed.integrations.flair import CharEmbedderEmbeddings  # first: it says what to install where flair is not
from charembed.tagging.labelled_text import METRICS, LabelledSentence, Splits, Task, entities, read_splits

# isort: split
import flair
from flair.data import Corpus, Sentence
from flair.embeddings import TokenEmbeddings
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer


def flair_sentence(labelled: LabelledSentence, task: Task) -> Sentence:
    """A sentence with its labels, in Flair's form."""
    sentence = Sentence(labelled.words)
    if task == "ner":
        for start, end, kind in sorted(entities(labelled.tags)):
            sentence[start:end].add_label(task, kind)
    else:
        for token, tag in zip(sentence, labelled.tags, strict=True):
            token.add_label(task, tag)
    return sentence


def flair_corpus(splits: Splits[LabelledSentence], task: Task) -> Corpus[Sentence]:
    """The splits of a task, in Flair's form and in their order."""
    found = [[flair_sentence(one, task) for one in split] for split in splits]
    return Corpus(train=found[0], dev=found[1], test=found[2], name=task)  # type: ignore[arg-type]


def train_tagger(
    corpus: Corpus[Sentence],
    embeddings: TokenEmbeddings,
    task: Task,
    folder: Path,
    *,
    hidden_size: int,
    max_epochs: int,
    storage: Literal["none", "cpu"] = "cpu",
) -> float:
    """Train Flair's tagger with the settings of Akbik et al. (2018), and keep the epoch that is best on dev.

    Args:
        corpus: labelled sentences.
        embeddings: of their tokens.
        task: what the labels are; a CRF is for entities alone.
        folder: where Flair writes.
        hidden_size: of the BiLSTM.
        max_epochs: how often the sentences are read at most: the learning rate is halved where dev does not get better.
        storage: whether Flair keeps the vectors of tokens.

    Returns:
        Its score on the test sentences, in per cent.
    """
    labels = corpus.make_label_dictionary(label_type=task, add_unk=False)
    tagger = SequenceTagger(
        hidden_size=hidden_size,
        embeddings=embeddings,
        tag_dictionary=labels,
        tag_type=task,
        use_crf=task == "ner",
    )
    result = ModelTrainer(tagger, corpus).train(
        folder,
        learning_rate=0.1,
        mini_batch_size=32,
        max_epochs=max_epochs,
        embeddings_storage_mode=storage,
        write_weights=False,
    )
    return 100 * float(result["test_score"])


def main(
    model: str,
    train: str,
    dev: str | None = None,
    test: str | None = None,
    task: Task = "ner",
    token_column: int = 0,
    tag_column: int = 1,
    hidden_size: int = 256,
    max_epochs: int = 30,
    seed: int = 1,
    threads: int = 1,
    output: str | None = None,
) -> None:
    """Train a Flair tagger on charembed vectors and print its score.

    Args:
        model: folder of the language model.
        train: labelled training file.
        dev: labelled file that chooses the epoch; a tenth of the training file by default.
        test: labelled file that is scored; a quarter of the training file by default.
        task: named entities (BIO or IO tags) or parts of speech.
        token_column: column of the token in column files, from 0.
        tag_column: column of the tag in column files, from 0; CoNLL-U files are known by their name.
        hidden_size: of the tagger's BiLSTM.
        max_epochs: epochs of the tagger.
        seed: of the tagger.
        threads: threads inside PyTorch's operators.
        output: folder that keeps the tagger; nothing is kept by default. To load it with Flair, import
            charembed.integrations.flair first; the folder of the language model is not needed any more.
    """
    torch.set_num_threads(threads)
    flair.set_seed(seed)
    splits = read_splits(train, dev, test, token_column, tag_column)
    corpus = flair_corpus(splits, task)
    embeddings = CharEmbedderEmbeddings(model)
    with tempfile.TemporaryDirectory() as workspace:
        folder = Path(output or workspace)
        reached = train_tagger(corpus, embeddings, task, folder, hidden_size=hidden_size, max_epochs=max_epochs)
    print(f"{METRICS[task]} {reached:.2f} on {test or 'a quarter of ' + train}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
