"""Scale static vectors so that they vary as much as the states of language models, which they stand beside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, CharLM
from charembed.recurrent.float32_precision import float32_products
from charembed.static_vectors import StaticVectors
from charembed.text.vocab import CharVocab, Ids
from charembed.text.words import SpannedText

_LANE = 256
"""Characters of a lane. Lanes are read side by side, each from the zero state."""


def match_states(static: StaticVectors, model: BiCharLM, vocab: CharVocab, text: str) -> StaticVectors:
    """Return static vectors multiplied by a number, so that their variance is that of the states of a model.

    A tagger that scales its input by one number, or penalises its weights, then takes both into account. The variance
    is the mean over the dimensions, measured at all words of a text.

    Args:
        static: the static vectors.
        model: the language models. Their mode, training or evaluation, is left as it was.
        vocab: their vocabulary.
        text: about 20,000 characters of text.

    Returns:
        The scaled vectors; `static` itself if the text has no words that tell.
    """
    spanned = SpannedText.of(text)
    if not len(spanned.spans):
        return static
    ids = vocab.encode(text)
    # The forward model is at a word's last character; the backward model, which reads from the end, at its first.
    positions = {"forward": spanned.spans[:, 1] - 1, "backward": len(text) - 1 - spanned.spans[:, 0]}
    variances = [
        _state_variance(model.direction(direction), ids if direction == "forward" else ids[::-1], positions[direction])
        for direction in model.directions
    ]
    wanted, given = float(np.mean(variances)), _variance(static.lookup(spanned.words))
    # A single word, or vectors of nothing but zeros, say nothing.
    return static.scaled(math.sqrt(wanted / given)) if wanted > 0 and given > 0 else static


def join_static(forward: StaticVectors | None, backward: StaticVectors | None) -> StaticVectors | None:
    """Return the static vectors of two models that were trained in one direction each.

    Training scales them to the states of its own model, so they may differ in their scale: the joined ones have the
    geometric mean of both.

    Raises:
        CharEmbedError: they differ in anything else.
    """
    if forward is None or backward is None:
        return backward if forward is None else forward
    if forward.digest() == backward.digest():
        return forward
    totals = [float(static.scales.sum(dtype=np.float64)) for static in (forward, backward)]
    if min(totals) > 0:
        middle = math.sqrt(totals[0] * totals[1])
        joined, other = forward.scaled(middle / totals[0]), backward.scaled(middle / totals[1])
        if _content(joined) == _content(other) and np.allclose(joined.scales, other.scales, rtol=1e-5):
            return joined
    raise CharEmbedError("the two models cannot be joined: they differ in their static vectors")


def _content(static: StaticVectors) -> tuple[Any, ...]:
    return static.words, static.rows.shape, static.rows.tobytes(), static.min_n, static.max_n


def _state_variance(lm: CharLM, ids: Ids, positions: NDArray[np.int64]) -> float:
    """Return the variance of the states at some positions of a text, in the model's order of reading."""
    lanes = -(-len(ids) // _LANE)
    padded = np.zeros(lanes * _LANE, dtype=np.int64)
    padded[: len(ids)] = ids
    training = lm.training
    lm.eval()
    device = lm.decoder.weight.device
    with torch.inference_mode(), float32_products(device, "float32"):
        x = torch.from_numpy(padded.reshape(lanes, _LANE).T.copy()).to(device)
        states = lm.hidden_states(x)[0].transpose(0, 1).flatten(0, 1)
        chosen: NDArray[np.float32] = states[torch.from_numpy(positions).to(states.device)].float().cpu().numpy()
    lm.train(training)
    return _variance(chosen)


def _variance(vectors: NDArray[np.float32]) -> float:
    """Return the mean over the dimensions of the variance over the vectors. Shape: (vectors, dim) to ()"""
    return float(vectors.var(axis=0, dtype=np.float64).mean())
