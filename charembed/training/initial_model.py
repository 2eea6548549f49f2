"""Receives a configuration and an encoded corpus; hands on the model that training starts from, new or finished."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.lm.model import BiCharLM, CharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.text.vocab import UNKNOWN_ID
from charembed.training.config import TrainConfig


def load_initial(config: TrainConfig) -> Pretrained | None:
    """The finished model to go on from, where one is named.

    Raises:
        CharEmbedError: no model folder, or one without the directions that are asked for.
    """
    if config.init is None:
        return None
    initial = Pretrained.load(config.init)
    for direction in config.directions:
        initial.model.direction(direction)
    return initial


def starting_model(config: TrainConfig, encoded: EncodedCorpus, initial: Pretrained | None) -> BiCharLM:
    """The model before the first step, on the CPU, in training mode.

    A new one starts with the frequencies of single characters in the decoder's bias, which spares the first steps
    finding them. One to go on from keeps its weights; characters that the vocabulary has gained start as the unknown
    one.

    Args:
        config: of the run.
        encoded: the text, with the vocabulary.
        initial: from `load_initial`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return (_new_model(config, encoded) if initial is None else _continued_model(config, encoded, initial)).train()


def _continued_model(config: TrainConfig, encoded: EncodedCorpus, initial: Pretrained) -> BiCharLM:
    size = len(encoded.vocab)
    model = BiCharLM(dataclasses.replace(config.model, vocab_size=size), config.directions)
    for direction in config.directions:
        model.direction(direction).load_state_dict(_grown(initial.model.direction(direction), size))
    return model


def _new_model(config: TrainConfig, encoded: EncodedCorpus) -> BiCharLM:
    pair = BiCharLM(dataclasses.replace(config.model, vocab_size=len(encoded.vocab)))
    model = BiCharLM(pair.config, config.directions)
    for direction in config.directions:  # taken from the pair, so that one alone starts as it does in both
        lm = model.direction(direction)
        lm.load_state_dict(pair.direction(direction).state_dict())
        _predict_frequencies(lm, encoded)
    return model


@torch.no_grad()
def _predict_frequencies(lm: CharLM, encoded: EncodedCorpus) -> None:
    """With one more of each, so that what never occurs is unlikely, not impossible."""
    counts = encoded.counts + 1.0
    lm.decoder.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))


def _grown(lm: CharLM, size: int) -> dict[str, Tensor]:
    """Weights of a model for more characters, which share out what it gave the unknown one; all others are as likely
    as before."""
    weights = {name: tensor.detach().cpu() for name, tensor in lm.state_dict().items()}
    new = size - len(weights["decoder.bias"])
    for name in ("embedding.weight", "decoder.weight", "decoder.bias"):
        unknown = weights[name][UNKNOWN_ID : UNKNOWN_ID + 1]
        weights[name] = torch.cat([weights[name], unknown.repeat(new, *[1] * (unknown.dim() - 1))])
    shares = weights["decoder.bias"].clone()
    for row in (UNKNOWN_ID, *range(size - new, size)):
        shares[row] -= math.log(1 + new)
    weights["decoder.bias"] = shares
    return weights
