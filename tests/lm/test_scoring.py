"""Bits per character, against a character-by-character sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import small_model

from charembed import CharVocab
from charembed.lm import scoring
from charembed.lm.scoring import score, score_all
from charembed.util.workers import WorkerPool

TEXT = "The lazy dog jumps over the quick brown fox. " * 4


def bits_one_by_one(pretrained, text: str) -> float:
    """Sum of -log2 p over a text, one character at a time, all from one zero state."""
    lm, vocab = pretrained.model.forward_lm.eval(), pretrained.vocab
    state, bits, last = None, 0.0, "\n"
    with torch.no_grad():
        for character in text:
            logits, state = lm(torch.tensor([[int(vocab.encode(last)[0])]]), state)
            bits -= logits[0, 0].log_softmax(0)[int(vocab.encode(character)[0])].item() / math.log(2)
            last = character
    return bits


def test_score_is_the_mean_of_all_characters() -> None:
    pretrained = small_model()
    found = score(pretrained.model.forward_lm, pretrained.vocab.encode(TEXT), pretrained.vocab)
    assert found.bits_per_character == pytest.approx(bits_one_by_one(pretrained, TEXT) / len(TEXT), abs=1e-5)
    assert found.characters == len(TEXT)
    assert found.unknown_rate == 0.0


def test_lanes_and_chunks_leave_no_character_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = small_model()
    lm = pretrained.model.forward_lm.eval()
    with (
        torch.no_grad()
    ):  # a model whose prediction does not depend on what it has read: lanes may not change its score
        for parameter in lm.rnn.parameters():
            parameter.zero_()
    ids = pretrained.vocab.encode(TEXT)
    whole = score(lm, ids, pretrained.vocab)
    monkeypatch.setattr(scoring, "_LANE", 7)
    monkeypatch.setattr(scoring, "_CHUNK", 3)
    cut = score(lm, ids, pretrained.vocab)
    assert cut.bits_per_character == pytest.approx(whole.bits_per_character, abs=1e-6)


def test_unknown_characters_cost_what_it_takes_to_name_them() -> None:
    vocab = CharVocab("\n a")
    pretrained = small_model()
    pretrained.vocab = vocab
    ids = vocab.encode("aΩaa")
    known = score(pretrained.model.forward_lm, ids, vocab)
    assert known.unknown_rate == 0.25
    with_unknown = bits_one_by_one(pretrained, "aΩaa") / 4 + 0.25 * math.log2(0x110000 - 3)
    assert known.bits_per_character == pytest.approx(with_unknown, abs=1e-5)


def test_both_directions_read_their_own_way_and_are_left_in_training() -> None:
    pretrained = small_model()
    pretrained.model.train()
    ids = pretrained.vocab.encode(TEXT)
    both = score_all(pretrained.model, ids, pretrained.vocab, WorkerPool())
    assert both["backward"] == score(pretrained.model.backward_lm, np.ascontiguousarray(ids[::-1]), pretrained.vocab)
    assert both["forward"] == score(pretrained.model.forward_lm, ids, pretrained.vocab)
    assert pretrained.model.forward_lm.training
