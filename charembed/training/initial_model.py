"""Make the model that training starts from: a new one, or a finished one to continue with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.lm.model import BiCharLM, CharLM, CharLMConfig, Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.text.vocab import UNKNOWN_ID


def load_initial(init: str | None, directions: Sequence[Direction]) -> Pretrained | None:
    """Load the finished model to start from; None if the run starts from a new one.

    Args:
        init: bundled model, model folder or `hf://owner/name`.
        directions: the directions to train.

    Raises:
        CharEmbedError: `init` is not a model folder, or its model lacks one of the directions.
    """
    if init is None:
        return None
    initial = Pretrained.load(init)
    for direction in directions:
        initial.model.direction(direction)  # raises if it is missing
    return initial


def make_initial_model(
    architecture: CharLMConfig,
    directions: Sequence[Direction],
    seed: int,
    encoded: EncodedCorpus,
    initial: Pretrained | None,
) -> BiCharLM:
    """Return the model before the first step, on the CPU, in training mode.

    A new model starts with the log frequencies of the characters in the decoder's bias, so that the first steps need
    not learn them. A finished model keeps its weights; characters added to its vocabulary start like the unknown one.
    The global random generator is left as it was.

    Args:
        architecture: the architecture; its vocabulary size is replaced by that of the text.
        directions: the directions to train.
        seed: seed of the weights of a new model.
        encoded: the text, with the vocabulary.
        initial: the finished model, from `load_initial`.
    """
    config = dataclasses.replace(architecture, vocab_size=len(encoded.vocab))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if initial is None:
            model = _new_model(config, directions, encoded)
        else:
            model = _continued_model(config, directions, initial)
    return model.train()


def _continued_model(config: CharLMConfig, directions: Sequence[Direction], initial: Pretrained) -> BiCharLM:
    assert config.vocab_size is not None
    model = BiCharLM(config, directions)
    for direction in directions:
        weights = _grow_weights(initial.model.direction(direction), config.vocab_size)
        model.direction(direction).load_state_dict(weights)
    return model


def _new_model(config: CharLMConfig, directions: Sequence[Direction], encoded: EncodedCorpus) -> BiCharLM:
    # Both directions are always drawn, so that one trained alone starts with the weights that it has in a pair.
    pair = BiCharLM(config)
    model = BiCharLM(config, directions)
    for direction in directions:
        lm = model.direction(direction)
        lm.load_state_dict(pair.direction(direction).state_dict())
        _predict_frequencies(lm, encoded)
    return model


@torch.no_grad()
def _predict_frequencies(lm: CharLM, encoded: EncodedCorpus) -> None:
    """Set the decoder's bias to log frequencies, each count raised by one so that no character is impossible."""
    counts = encoded.counts + 1.0
    lm.decoder.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))


def _grow_weights(lm: CharLM, vocab_size: int) -> dict[str, Tensor]:
    """Return the weights of a model for a larger vocabulary.

    The unknown character and the new ones share the probability that the unknown one had; all other characters keep
    theirs.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in lm.state_dict().items()}
    added = vocab_size - len(weights["decoder.bias"])
    for name in ("embedding.weight", "decoder.weight", "decoder.bias"):
        # Each new character starts with the row of the unknown one.
        unknown = weights[name][UNKNOWN_ID : UNKNOWN_ID + 1]
        weights[name] = torch.cat([weights[name], unknown.repeat(added, *[1] * (unknown.dim() - 1))])
    # They share its probability equally: log(p / n) = log p - log n.
    bias = weights["decoder.bias"].clone()
    for row in (UNKNOWN_ID, *range(vocab_size - added, vocab_size)):
        bias[row] -= math.log(1 + added)
    weights["decoder.bias"] = bias
    return weights
