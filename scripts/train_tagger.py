"""Train a Flair sequence tagger (BiLSTM-CRF) on charembed vectors, and print its score on the test file.

    python scripts/train_tagger.py --model runs/mine/best --train train.conll --dev dev.conll --test test.conll

Reads CoNLL columns (one token a line, a blank line after a sentence) and CoNLL-U, plain or .gz/.xz/.bz2. Named entities
are scored by entity F1, parts of speech by accuracy. Needs `pip install 'charembed[flair]'`.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import flair
import torch
from flair.data import Corpus, Sentence
from flair.datasets import ColumnCorpus
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer
from jsonargparse import auto_cli

from charembed.integrations.flair import CharEmbedderEmbeddings
from charembed.sources import open_binary


def to_columns(source: Path, target: Path) -> None:
    """Write tokens and parts of speech of a CoNLL-U file as columns; multi-word and empty tokens are left out."""
    import conllu  # comes with Flair

    with (
        io.TextIOWrapper(open_binary(source), encoding="utf-8") as treebank,
        target.open("w", encoding="utf-8") as columns,
    ):
        for sentence in conllu.parse_incr(treebank):
            rows = [f"{token['form']}\t{token['upos']}\n" for token in sentence if isinstance(token["id"], int)]
            columns.write("".join(rows) + "\n")


def read_corpus(files: dict[str, str | None], columns: dict[int, str], workspace: Path) -> Corpus[Sentence]:
    """Read labelled files; Flair samples those that are missing from the training file, by its seed."""
    names: dict[str, Any] = {}
    delimiter = r"\s+"
    for split, source in files.items():
        if source is None:
            continue
        if ".conllu" in Path(source).suffixes:
            to_columns(Path(source), workspace / split)
            columns, delimiter = {0: "text", 1: "upos"}, "\t"
        else:
            with open_binary(Path(source)) as packed, (workspace / split).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        names[f"{split}_file"] = split
    return ColumnCorpus(workspace, columns, column_delimiter=delimiter, **names)


def main(
    model: str,
    train: str,
    dev: str | None = None,
    test: str | None = None,
    task: Literal["ner", "upos"] = "ner",
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
        test: labelled file that is scored; a tenth of the training file by default.
        task: named entities (BIO or IO tags) or parts of speech.
        token_column: column of the token in column files, from 0.
        tag_column: column of the tag in column files, from 0; CoNLL-U files are known by their name.
        hidden_size: of the tagger's BiLSTM.
        max_epochs: epochs of the tagger.
        seed: of the tagger and of sampled splits.
        threads: threads inside PyTorch's operators.
        output: folder that keeps the tagger; nothing is kept by default. To load it with Flair, import
            charembed.integrations.flair first; the folder of the language model is not needed any more.
    """
    torch.set_num_threads(threads)
    flair.set_seed(seed)
    with tempfile.TemporaryDirectory() as workspace:
        files = {"train": train, "dev": dev, "test": test}
        corpus = read_corpus(files, {token_column: "text", tag_column: task}, Path(workspace))
        labels = corpus.make_label_dictionary(label_type=task, add_unk=False)
        if not len(labels):
            sys.exit(f"{train} holds no {task} labels in column {tag_column}: see --token_column and --tag_column")
        tagger = SequenceTagger(
            hidden_size=hidden_size,
            embeddings=CharEmbedderEmbeddings(model),
            tag_dictionary=labels,
            tag_type=task,
            use_crf=task == "ner",
        )
        result = ModelTrainer(tagger, corpus).train(
            output or Path(workspace, "tagger"),
            learning_rate=0.1,
            mini_batch_size=32,
            max_epochs=max_epochs,
            embeddings_storage_mode="cpu",
            write_weights=False,
        )
    name = "entity F1" if task == "ner" else "accuracy"  # every token has one part of speech: micro F1 is accuracy
    print(f"{name} {100 * result['test_score']:.2f} on {test or 'a tenth of ' + train}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
