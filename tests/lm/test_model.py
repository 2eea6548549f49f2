"""Tests of the language models: what each direction reads, and which configurations are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import small_model

from charembed import BiCharLM, CharEmbedError, CharLM, CharLMConfig


@pytest.fixture(scope="module")
def model() -> BiCharLM:
    return small_model(num_layers=2, proj_size=7).model.eval()


def test_logits_depend_only_on_the_characters_read(model: BiCharLM) -> None:
    ids = torch.randint(1, 40, (9, 3))
    logits = model(ids)
    assert logits.forward_logits.shape == logits.backward_logits.shape == (9, 3, model.config.vocab_size)
    changed = ids.clone()
    changed[4] = (changed[4] + 1) % 40
    other = model(changed)
    same_forward = (logits.forward_logits == other.forward_logits).all(dim=(1, 2)).tolist()
    same_backward = (logits.backward_logits == other.backward_logits).all(dim=(1, 2)).tolist()
    assert same_forward == [True] * 4 + [False] * 5, "the forward model at t has read characters 0 to t"
    assert same_backward == [False] * 5 + [True] * 4, "the backward model at t has read characters t to the end"


def test_carried_state_is_one_long_sequence(model: BiCharLM) -> None:
    ids = torch.randint(1, 40, (10, 2))
    whole, _ = model.forward_lm(ids)
    first, state = model.forward_lm(ids[:6])
    second, _ = model.forward_lm(ids[6:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-6)


def test_projection_reduces_the_dimensions() -> None:
    config = CharLMConfig(hidden_size=12, proj_size=5, vocab_size=9)
    assert BiCharLM(config).embedding_dim == 10
    states, _ = CharLM(config).hidden_states(torch.zeros(3, 2, dtype=torch.long))
    assert states.shape == (3, 2, 5)


def test_dropout_of_a_seeded_model_leaves_the_global_generator_alone() -> None:
    lm = CharLM(CharLMConfig(hidden_size=4, vocab_size=9, dropout=0.5))
    ids = torch.zeros(3, 2, dtype=torch.long)
    lm.seed_dropout(1)
    before = torch.random.get_rng_state()
    first, _ = lm(ids)
    assert torch.equal(torch.random.get_rng_state(), before)
    lm.seed_dropout(1)
    second, _ = lm(ids)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 0, "model.hidden_size must be a whole number from 1 to 65536, got 0"),
        ("proj_size", -1, "model.proj_size must be a whole number"),
        ("hidden_size", 10**8, "model.hidden_size must be a whole number from 1 to 65536, got 100000000"),
        ("embedding_dim", 10**30, "model.embedding_dim must be a whole number from 1 to 65536, got 1000"),
        ("num_layers", 101, "model.num_layers must be a whole number from 1 to 100, got 101"),
        ("dropout", 1.0, "model.dropout must be at least 0 and below 1, got 1.0"),
        ("hidden_size", 12.0, "model.hidden_size must be a whole number from 1 to 65536, got 12.0"),
        ("vocab_size", "9", "model.vocab_size must be a whole number from 1 to 65536, got '9'"),
        ("dropout", "much", "model.dropout must be"),
        ("cell", "lstn", "model.cell must be one of elman, lstm, peephole_lstm, gru, mgu, got 'lstn'"),
        ("reset_after", True, "model.reset_after must be true or false, and true only for gru, got True for lstm"),
        ("reset_after", "yes", "model.reset_after must be true or false"),
    ],
)
def test_configuration_refuses(field: str, value: object, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharLMConfig(**{field: value})


def test_numpy_integers_become_int() -> None:
    assert type(CharLMConfig(hidden_size=np.int64(8)).hidden_size) is int


def test_a_model_needs_the_size_of_its_vocabulary() -> None:
    with pytest.raises(CharEmbedError, match=r"vocab_size is not set: set it to len\(vocab\)"):
        CharLM(CharLMConfig())
