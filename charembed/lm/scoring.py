"""Receives a language model and an id stream; hands on bits per character."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.text.vocab import CODE_POINTS, UNKNOWN_ID, CharVocab, Ids
from charembed.util.workers import WorkerPool

_CHUNK = 128
_LANE = 4096


@dataclass(frozen=True)
class Score:
    """How well a language model predicts a text."""

    bits_per_character: float
    """Mean of -log2 p(character). An unknown character costs its <unk> plus the bits that name one code point among
    those outside the vocabulary (20.1 for small vocabularies), so leaving characters out never pays."""
    characters: int
    """Characters scored: all of the text."""
    unknown_rate: float
    """Share of them that are <unk>."""


def score(lm: CharLM, ids: Ids, vocab: CharVocab) -> Score:
    """Bits per character of one direction over a stream, every character of it scored once.

    The stream is read in lanes of about 4,096 characters side by side. The first starts after a newline from the zero
    state, each further one after the character before it.

    Args:
        lm: the model; scored in evaluation mode and left as it was.
        ids: the stream in the model's reading order, not empty. Shape: (characters,)
        vocab: the model's vocabulary.
    """
    count = len(ids)
    lanes = max(1, min(64, count // _LANE))
    length = -(-count // lanes)
    targets = np.full(lanes * length, -1, dtype=np.int64)
    targets[:count] = ids
    inputs = np.concatenate([vocab.encode("\n"), np.maximum(targets[:-1], 0)])
    device = lm.decoder.weight.device
    x = torch.from_numpy(inputs.reshape(lanes, length).T.copy())
    y = torch.from_numpy(targets.reshape(lanes, length).T.copy())
    training = lm.training
    lm.eval()
    nats = 0.0
    state = None
    with torch.inference_mode():
        for start in range(0, length, _CHUNK):
            logits, state = lm(x[start : start + _CHUNK].to(device), state)
            wanted = y[start : start + _CHUNK].to(device).flatten()
            nats += functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1, reduction="sum").item()
    lm.train(training)
    unknown_rate = float(np.mean(np.asarray(ids) == UNKNOWN_ID))
    naming = unknown_rate * math.log2(CODE_POINTS - len(vocab.characters))
    return Score(nats / math.log(2) / count + naming, count, unknown_rate)


def score_all(model: BiCharLM, ids: Ids, vocab: CharVocab, pool: WorkerPool) -> dict[Direction, Score]:
    """`score` of each direction of a model over one text.

    Args:
        model: the pair, or one direction.
        ids: the text in reading order. Shape: (characters,)
        vocab: the model's vocabulary.
        pool: where they run at once.
    """
    return pool.map(
        lambda direction: score(model.direction(direction), ids if direction == "forward" else ids[::-1], vocab),
        model.directions,
    )
