"""Bits of single characters, compared with the score of the whole text and with steps one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import AWKWARD_TEXTS, small_model, states_one_by_one

from charembed.lm.scoring import score
from charembed.lm.surprise import surprise


@pytest.mark.parametrize("text", [text for text in AWKWARD_TEXTS if 0 < len(text) < 1000])
def test_the_mean_is_the_score_of_the_text(text: str) -> None:
    pretrained = small_model()
    bits = surprise(pretrained.model, pretrained.vocab, text)
    ids = pretrained.vocab.encode(text)
    for direction, stream in (("forward", ids), ("backward", ids[::-1])):
        expected = score(pretrained.model.direction(direction), stream, pretrained.vocab)
        assert bits[direction].shape == (len(text),)
        assert bits[direction].mean() == pytest.approx(expected.bits_per_character, rel=1e-5), direction


def test_each_character_has_its_own_bits() -> None:
    pretrained, text = small_model(), "The fox jumps"
    bits = surprise(pretrained.model, pretrained.vocab, text)
    for direction, read in (("forward", text), ("backward", text[::-1])):
        lm, ids = pretrained.model.direction(direction).eval(), pretrained.vocab.encode("\n" + read)
        with torch.no_grad():
            logits = lm.decoder(torch.from_numpy(states_one_by_one(lm, ids[:-1])))
        one_by_one = -torch.log2(torch.softmax(logits, 1))[range(len(text)), ids[1:].tolist()].numpy()
        expected = one_by_one if direction == "forward" else one_by_one[::-1]
        np.testing.assert_allclose(bits[direction], expected, rtol=1e-4, err_msg=direction)


def test_an_empty_text_has_no_bits() -> None:
    pretrained = small_model()
    assert surprise(pretrained.model, pretrained.vocab, "")["forward"].shape == (0,)
