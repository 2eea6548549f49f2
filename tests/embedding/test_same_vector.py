"""A word has the same vector bit for bit whatever is embedded with it, and nearly the same with another engine."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from helpers import EXCERPT, with_projection
from numpy.typing import NDArray

from charembed import CharEmbedder
from charembed.embedding.limits import EmbeddingLimits
from charembed.lm.model import BiCharLM, Cell, CharLMConfig
from charembed.pretrained.model_folder import Pretrained
from charembed.recurrent import onednn_lstm, products

_RANDOM = random.Random(5)
ORDINARY = [line[:120] for line in EXCERPT.read_text(encoding="utf-8").splitlines() if len(line) > 40][:21]
HARD = [
    "a" * 300,
    "1" * 150,
    " . " * 50,
    ("ไทยกขคงจฉ" * 20)[:150],
    "".join(chr(_RANDOM.randint(32, 0xD7FF)) for _ in range(100)),
    "x",
]
"""Long runs of one character, characters that the bundled models do not know, random Unicode, and a short text."""
needs_onednn = pytest.mark.skipif(not products._onednn_linear_works(), reason="PyTorch has no oneDNN here")
needs_bfloat16 = pytest.mark.skipif(
    not onednn_lstm._onednn_lstm_works(torch.bfloat16), reason="oneDNN has no LSTM in bfloat16 here"
)
ENGINES = [
    pytest.param("torch", "float32", marks=needs_onednn),
    pytest.param("torch", "bfloat16", marks=needs_bfloat16),
    ("onnx", "float32"),
    ("onnx", "int8"),
]


def vectors_of(embedder: CharEmbedder, texts: list[str]) -> list[NDArray[np.float32]]:
    return [embedding.vectors for embedding in embedder.embed(texts)]


def assert_independent_of_batch(texts: list[str], one_thread: CharEmbedder, small_batches: CharEmbedder) -> None:
    """Fail unless vectors are equal bit for bit alone, together, in another order, and with other options."""
    expected = vectors_of(one_thread, texts)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    shuffled = vectors_of(small_batches, [texts[number] for number in order])
    for number, vectors in zip(order, shuffled, strict=True):
        assert np.array_equal(vectors, expected[number]), f"{texts[number]!r} in another order and other batches"
    for number in range(0, len(texts), 5):
        [alone] = vectors_of(one_thread, [texts[number]])
        assert np.array_equal(alone, expected[number]), f"{texts[number]!r} alone"


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
@pytest.mark.parametrize("model", ["en", "de"])
def test_bundled_models_do_not_depend_on_the_batch(model: str, engine: str, precision: str) -> None:
    pretrained = Pretrained.load(model)
    options = {"engine": engine, "precision": precision, "dim": 64}
    assert_independent_of_batch(
        HARD + ORDINARY,
        CharEmbedder(pretrained, threads=1, **options),
        CharEmbedder(pretrained, threads=2, batch_size=7, **options),
    )


@needs_onednn
@pytest.mark.parametrize("cell", ["lstm", "gru", "mgu", "elman", "peephole_lstm"])
def test_no_recurrence_depends_on_the_batch(cell: Cell, pretrained: Pretrained) -> None:
    """Also with sizes that do not fill vector registers."""
    texts = [line[: 7 * number] for number, line in enumerate(ORDINARY, start=1)]
    for hidden_size in (12, 33):
        config = dataclasses.replace(
            pretrained.model.config, cell=cell, hidden_size=hidden_size, num_layers=2, proj_size=5
        )
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = dataclasses.replace(pretrained, model=BiCharLM(CharLMConfig(**dataclasses.asdict(config))))
        assert_independent_of_batch(
            texts,
            CharEmbedder(model, engine="torch", threads=1),
            CharEmbedder(model, engine="torch", batch_size=4),
        )


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_a_long_text_has_the_same_vectors_in_parts(engine: str, precision: str, pretrained: Pretrained) -> None:
    options = {"engine": engine, "precision": precision, "dim": 7}
    parts = EmbeddingLimits(window_characters=100, part_characters=60, chunk_characters=50)
    model, text = with_projection(pretrained), " ".join(ORDINARY[:3])
    [whole] = vectors_of(CharEmbedder(model, **options), [text])
    [in_parts] = vectors_of(CharEmbedder(model, **options, limits=parts), [text])
    assert np.array_equal(in_parts, whole)


@pytest.mark.parametrize("model", ["en", "de"])
def test_engines_differ_by_rounding_alone(model: str) -> None:
    """A long run of one character amplifies the rounding of each step in some dimensions."""
    pretrained = Pretrained.load(model)
    for texts, bound in ((ORDINARY, 2e-4), (HARD, 0.5)):
        by_torch, by_onnx = (
            np.concatenate(vectors_of(CharEmbedder(pretrained, engine=engine, parts=["forward", "backward"]), texts))
            for engine in ("torch", "onnx")
        )
        assert np.abs(by_torch - by_onnx).max() <= bound
        products_of_norms = np.linalg.norm(by_torch, axis=1) * np.linalg.norm(by_onnx, axis=1)
        assert ((by_torch * by_onnx).sum(axis=1) / products_of_norms).min() >= 0.99
