"""Every computation of the package asks for the products that its option `precision` names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers import small_model, small_tagger, tiny_config

from charembed import CharEmbedder, WordEncoder, evaluate, train
from charembed.lm.generation import generate
from charembed.training.schedule import BudgetConfig

MODULES = [
    "embedding.torch_engine",
    "embedding.word_encoder",
    "lm.generation",
    "lm.scoring",
    "tagging.tagger",
    "training.direction_trainer",
]
"""Where computations run."""


def embedder(precision: str) -> CharEmbedder:
    return CharEmbedder(small_model(), engine="torch", precision=precision)


def train_one_step(folder: Path, precision: str) -> None:
    train(tiny_config(folder, precision=precision, budget=BudgetConfig(steps=1), validations=1))


COMPUTATIONS: dict[str, tuple[Callable[[Path, str], object], set[str]]] = {
    "embed": (lambda _, precision: embedder(precision).embed(["a text"]), {"embedding.torch_engine"}),
    "word encoder": (
        lambda _, precision: WordEncoder(embedder(precision), trainable=True, projection_size=3)(["a text"]),
        {"embedding.word_encoder"},
    ),
    "tagger": (
        lambda _, precision: small_tagger(embedder(precision)).predict(["a text"]),
        {"embedding.torch_engine", "tagging.tagger"},
    ),
    "train": (train_one_step, {"training.direction_trainer"}),
}


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Record the precisions that each module asks for."""
    requests: dict[str, set[str]] = {}

    def record(name: str) -> Callable[[torch.device, str], AbstractContextManager[None]]:
        def float32_products(device: torch.device, precision: str) -> AbstractContextManager[None]:
            assert device == torch.device("cpu")
            requests.setdefault(name, set()).add(precision)
            return nullcontext()

        return float32_products

    for name in MODULES:
        monkeypatch.setattr(importlib.import_module(f"charembed.{name}"), "float32_products", record(name))
    return requests


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("name", COMPUTATIONS)
def test_computations_ask_for_their_precision(
    name: str, precision: str, tmp_path: Path, requested: dict[str, set[str]]
) -> None:
    compute, modules = COMPUTATIONS[name]
    compute(tmp_path, precision)
    assert all(requested[module] == {precision} for module in modules)


@pytest.mark.parametrize("name", ["evaluate", "generate"])
def test_computations_without_a_precision_are_exact(name: str, requested: dict[str, set[str]], pretrained) -> None:
    if name == "evaluate":
        evaluate(pretrained, ["a text"])
    else:
        list(islice(generate(pretrained.model.forward_lm, pretrained.vocab), 2))
    assert list(requested.values()) == [{"float32"}]
