"""Every recurrence all the way: trained, saved, loaded, embedded with, scored and generated from."""

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
def test_vectors_are_those_of_the_reference(cell: str, num_layers: int) -> None:
    pretrained = small_model(num_layers=num_layers, **CELLS[cell])
    for text, found in zip(AWKWARD_TEXTS, CharEmbedder(pretrained).embed(AWKWARD_TEXTS), strict=True):
        assert_same_vectors(found.vectors, reference_vectors(pretrained, text), found.words)


def run(folder: Path, cell: str) -> Pretrained:
    config = TrainConfig(
        output=str(folder),
        data=CorpusConfig(train=str(EXCERPT), held_out=0.03),
        model=CharLMConfig(**CELLS[cell], hidden_size=48, embedding_dim=16, dropout=0.05),
        budget=BudgetConfig(steps=200),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=10),
        batch_size=8,
        seq_len=32,
        validations=2,
    )
    return Pretrained.load(train(config).folder / "last")


@pytest.mark.parametrize("cell", CELLS)
def test_trained_saved_loaded_and_used(cell: str, tmp_path: Path) -> None:
    trained, again = (run(tmp_path / name, cell) for name in ("one", "two"))
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), f"{name} depends on more than the seed"

    embedder = CharEmbedder(trained)
    assert_same_vectors(
        embedder.embed(["The city of Rome."])[0].vectors,
        reference_vectors(trained, "The city of Rome."),
        ["The", "city", "of", "Rome", "."],
    )
    assert len("".join(islice(generate(trained.model.forward_lm, trained.vocab, "The ", seed=1), 20))) == 20

    ids = trained.vocab.encode(EXCERPT.read_text(encoding="utf-8")[:20_000])
    counts = np.unique(ids, return_counts=True)[1]
    entropy = float(-(counts / len(ids) * np.log2(counts / len(ids))).sum())
    pool = WorkerPool()
    learned = score_all(trained.model, ids, trained.vocab, pool)
    for name, parameter in trained.model.named_parameters():
        if "weight_hh" in name:
            parameter.detach().zero_()
    forgetful = score_all(trained.model, ids, trained.vocab, pool)
    for direction, score in learned.items():
        assert score.bits_per_character < entropy - 0.3, f"{direction} has learned little more than frequencies"
        assert score.bits_per_character < forgetful[direction].bits_per_character - 0.1, f"{direction} has no use for y"
