"""Tests of generating text from a forward model."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from charembed import CharEmbedError, CharLM, CharLMConfig, CharVocab
from charembed.lm.generation import generate
from charembed.pretrained.model_folder import Pretrained
from charembed.training.result import TrainResult


def generated(pretrained: Pretrained, prompt: str = "The ", count: int = 30, **options: float | int) -> str:
    return "".join(islice(generate(pretrained.model.forward_lm, pretrained.vocab, prompt, **options), count))


def test_low_temperature_takes_the_most_probable_character(run: TrainResult) -> None:
    trained = Pretrained.load(run.folder / "best")
    text = "\nThe "
    for _ in range(20):
        logits, _ = trained.model.forward_lm(torch.from_numpy(trained.vocab.encode(text)).long()[:, None])
        logits[-1, 0, 0] = -torch.inf
        text += trained.vocab.decode([int(logits[-1, 0].argmax())])
    assert generated(trained, count=20, temperature=1e-4) == text[len("\nThe ") :]


def test_a_seed_makes_the_text_reproducible(pretrained: Pretrained) -> None:
    assert generated(pretrained, seed=1) == generated(pretrained, seed=1)
    assert generated(pretrained, seed=1) != generated(pretrained, seed=2)
    assert generated(pretrained) != generated(pretrained)


def test_unknown_characters_are_read_but_never_generated(pretrained: Pretrained) -> None:
    with torch.no_grad():
        pretrained.model.forward_lm.decoder.bias[0] = 50.0
    assert "\ufffd" not in generated(pretrained, prompt="Ω", seed=1)


def test_a_tiny_temperature_does_not_overflow(pretrained: Pretrained) -> None:
    assert generated(pretrained, temperature=1e-320) == generated(pretrained, temperature=1e-9)


def test_seed_out_of_range(pretrained: Pretrained) -> None:
    with pytest.raises(CharEmbedError, match="seed must be from 0 to 2147483647, got -1"):
        generated(pretrained, seed=-1)


def test_temperature_must_be_positive(pretrained: Pretrained) -> None:
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(CharEmbedError, match="temperature must be positive"):
            generated(pretrained, temperature=temperature)


def test_a_vocabulary_without_characters_is_refused() -> None:
    lm = CharLM(CharLMConfig(embedding_dim=2, hidden_size=2, vocab_size=1))
    with pytest.raises(CharEmbedError, match="the vocabulary of this model has no characters"):
        generate(lm, CharVocab([]))
