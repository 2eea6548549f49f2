"""Every recurrence from end to end: train, save, load, embed, score and generate."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import AWKWARD_TEXTS, EXCERPT, assert_same_vectors, reference_vectors, small_model

from charembed import CharEmbedder, CharLMConfig, TrainConfig, train
from charembed.lm.generation import generate
from charembed.lm.scoring import score_all
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import CorpusConfig
from charembed.training.schedule import BudgetConfig, OptimizerConfig
from charembed.util.workers import WorkerPool

CELLS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "lstm": {"cell": "lstm"},
    "peephole_lstm": {"cell": "peephole_lstm"},
    "gru": {"cell": "gru"},
    "gru reset_after": {"cell": "gru", "reset_after": True},
    "mgu": {"cell": "mgu"},
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_vectors_match_the_reference(cell: str, num_layers: int) -> None:
    pretrained = small_model(num_layers=num_layers, **CELLS[cell])
    texts = [text[:300] for text in AWKWARD_TEXTS]  # the reference takes a second for 10,000 characters
    for text, embedded in zip(texts, CharEmbedder(pretrained).embed(texts), strict=True):
        assert_same_vectors(embedded.vectors, reference_vectors(pretrained, text), embedded.words)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of the excerpt."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(EXCERPT.read_text(encoding="utf-8")[:100_000], encoding="utf-8")
    return path


def train_model(folder: Path, text: Path, cell: str, steps: int) -> Pretrained:
    """Train a small model."""
    config = TrainConfig(
        output=str(folder),
        data=CorpusConfig(train=str(text), held_out=0.01),
        model=CharLMConfig(**CELLS[cell], hidden_size=48, embedding_dim=16, dropout=0.05),
        budget=BudgetConfig(steps=steps),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=10),
        batch_size=8,
        seq_len=32,
        validations=1,
        words="none",
    )
    return Pretrained.load(train(config).folder / "last")


@pytest.mark.parametrize("cell", CELLS)
def test_train_save_load_and_use(cell: str, tmp_path: Path, text: Path) -> None:
    # The same seed gives the same weights.
    short, repeated = (train_model(tmp_path / name, text, cell, steps=3) for name in ("one", "two"))
    for name, tensor in short.model.state_dict().items():
        assert torch.equal(tensor, repeated.model.state_dict()[name]), f"{name} depends on more than the seed"

    # Embed and generate.
    trained = train_model(tmp_path / "trained", text, cell, steps=150)
    embedder = CharEmbedder(trained)
    assert_same_vectors(
        embedder.embed(["The city of Rome."])[0].vectors,
        reference_vectors(trained, "The city of Rome."),
        ["The", "city", "of", "Rome", "."],
    )
    assert len("".join(islice(generate(trained.model.forward_lm, trained.vocab, "The ", seed=1), 20))) == 20

    # The model predicts better than character frequencies, and worse without its recurrent weights.
    ids = trained.vocab.encode(EXCERPT.read_text(encoding="utf-8")[:4_000])
    counts = np.unique(ids, return_counts=True)[1]
    entropy = float(-(counts / len(ids) * np.log2(counts / len(ids))).sum())
    pool = WorkerPool()
    scores = score_all(trained.model, ids, trained.vocab, pool)
    for name, parameter in trained.model.named_parameters():
        if "weight_hh" in name:
            parameter.detach().zero_()
    scores_without_memory = score_all(trained.model, ids, trained.vocab, pool)
    for direction, score in scores.items():
        without_memory = scores_without_memory[direction].bits_per_character
        assert score.bits_per_character < entropy - 0.3, f"{direction} learned little more than frequencies"
        assert score.bits_per_character < without_memory - 0.1, f"{direction} does not use its state"
