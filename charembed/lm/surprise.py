"""How surprised language models are by each character of a text."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.recurrent.float32_precision import float32_products
from charembed.text.vocab import CODE_POINTS, UNKNOWN_ID, CharVocab, Ids


def surprise(model: BiCharLM, vocab: CharVocab, text: str) -> dict[Direction, NDArray[np.float32]]:
    """Return the bits that each direction needs for each character, given those that it has read before.

    Each direction reads the text after a newline. An unknown character costs the bits of <unk> and those that name it,
    as in `Score`, so the mean is the bits per character of the text.

    Args:
        model: the language models.
        vocab: their vocabulary.
        text: a text that fits into memory with its states.

    Returns:
        By direction. Shape: (characters,) each, in the order of the text.
    """
    ids = vocab.encode(text)
    bits: dict[Direction, NDArray[np.float32]] = {}
    for direction in model.directions:
        step = 1 if direction == "forward" else -1
        bits[direction] = _bits(model.direction(direction), vocab, ids[::step])[::step]
    return bits


def _bits(lm: CharLM, vocab: CharVocab, ids: Ids) -> NDArray[np.float32]:
    """Return the bits of each character of a stream in the model's reading order. Shape: (characters,)"""
    if not len(ids):
        return np.empty(0, np.float32)
    device = lm.decoder.weight.device
    targets = torch.tensor(np.asarray(ids, np.int64), device=device)
    inputs = torch.cat([torch.tensor(vocab.encode("\n").astype(np.int64), device=device), targets[:-1]])
    training = lm.training
    lm.eval()
    with torch.inference_mode(), float32_products(device, "float32"):
        states, _ = lm.hidden_states(inputs[:, None])
        nats = functional.cross_entropy(lm.decoder(states[:, 0]), targets, reduction="none")
    lm.train(training)
    bits = np.asarray(nats.cpu().numpy() / math.log(2), np.float32)
    bits[np.asarray(ids) == UNKNOWN_ID] += math.log2(CODE_POINTS - len(vocab.characters))
    return bits
