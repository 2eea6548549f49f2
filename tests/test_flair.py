"""Flair: token embeddings that train a tagger and come back with it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script

# Flair and what it imports warn of their own affairs on import and in use.
pytestmark = pytest.mark.filterwarnings("default")

TRAIN = """EU B-ORG
rejects O
German B-MISC
call O

Peter B-PER
Blackburn I-PER

BRUSSELS B-LOC
1996-08-22 O
"""


@pytest.fixture
def embeddings(embedder):
    from charembed.integrations.flair import CharEmbedderEmbeddings

    return CharEmbedderEmbeddings(embedder)


def test_tokens_get_the_embedder_s_vectors(embedder, embeddings) -> None:
    from flair.data import Sentence

    words = [["Tokens", "as", "they", "are", "."], ["One"]]
    sentences = [Sentence(w) for w in words]
    embeddings.embed(sentences)
    for sentence, found in zip(sentences, embedder.embed(words), strict=True):
        given = np.stack([token.embedding.cpu().numpy() for token in sentence])
        assert np.array_equal(given, found.vectors)
    assert embeddings.embedding_length == embedder.embedding_dim


def test_two_models_on_one_sentence_keep_their_vectors_apart(embeddings) -> None:
    from conftest import small_model
    from flair.data import Sentence

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    other = CharEmbedderEmbeddings(CharEmbedder(small_model(seed=9)))
    sentence = Sentence("two models")
    embeddings.embed(sentence)
    other.embed(sentence)
    assert sentence[0].get_embedding([embeddings.name]).tolist() != sentence[0].get_embedding([other.name]).tolist()
    assert CharEmbedderEmbeddings(embeddings.embedder).name == embeddings.name


def test_weights_are_frozen_and_vectors_the_same_in_training(embeddings) -> None:
    from flair.data import Sentence

    embeddings.train()
    assert not any(parameter.requires_grad for parameter in embeddings.parameters())
    first, second = Sentence("the same text"), Sentence("the same text")
    embeddings.embed([first])
    embeddings.embed([second])
    assert (first[0].embedding == second[0].embedding).all()


def test_copies_work_on_their_own(embeddings) -> None:
    from flair.data import Sentence

    first, second = Sentence("a copy"), Sentence("a copy")
    embeddings.embed([first])
    copy.deepcopy(embeddings).embed([second])
    assert (first[1].embedding == second[1].embedding).all()


def test_a_tagger_comes_back_from_its_file_alone(embeddings, tmp_path: Path) -> None:
    from flair.data import Dictionary, Sentence
    from flair.embeddings import StackedEmbeddings
    from flair.models import SequenceTagger

    labels = Dictionary(add_unk=False)
    for label in ("PER", "LOC"):
        labels.add_item(label)
    tagger = SequenceTagger(StackedEmbeddings([embeddings]), labels, "ner", hidden_size=8)
    tagger.save(tmp_path / "tagger.pt")
    sentence = Sentence("Peter was here")
    tagger.embeddings.embed(sentence)
    np.save(tmp_path / "wanted.npy", np.stack([token.embedding.cpu().numpy() for token in sentence]))
    code = f"""
import numpy as np
import charembed.integrations.flair
from flair.data import Sentence
from flair.models import SequenceTagger
sentence = Sentence("Peter was here")
SequenceTagger.load(r"{tmp_path / "tagger.pt"}").embeddings.embed(sentence)
found = np.stack([token.embedding.cpu().numpy() for token in sentence])
assert np.array_equal(found, np.load(r"{tmp_path / "wanted.npy"}")), "other vectors"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def train_tagger(*arguments: str | Path) -> str:
    return run_script("train_tagger.py", *arguments, "--hidden_size", "8", "--max_epochs", "1")


def test_tagger_script_on_columns(embedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "train.conll").write_text(TRAIN * 3)
    files = ["--train", tmp_path / "train.conll", "--dev", tmp_path / "train.conll", "--test", tmp_path / "train.conll"]
    assert "entity F1 " in train_tagger("--model", tmp_path / "model", *files, "--output", tmp_path / "tagger")
    assert (tmp_path / "tagger" / "best-model.pt").exists() or (tmp_path / "tagger" / "final-model.pt").exists()


def test_tagger_script_on_conllu(embedder, tmp_path: Path) -> None:
    import lzma

    embedder.save_pretrained(tmp_path / "model")
    words = [("1-2", "Don't", "_"), ("1", "Do", "AUX"), ("2", "n't", "PART"), ("3", "go", "VERB")]
    rows = ["\t".join([number, word, "_", tag, *["_"] * 6]) for number, word, tag in words]
    with lzma.open(tmp_path / "train.conllu.xz", "wt", encoding="utf-8") as file:
        file.write(("# text = Don't go\n" + "\n".join(rows) + "\n\n") * 12)
    accuracy = train_tagger("--model", tmp_path / "model", "--train", tmp_path / "train.conllu.xz", "--task", "upos")
    assert "accuracy " in accuracy
    assert "a tenth of" in accuracy
