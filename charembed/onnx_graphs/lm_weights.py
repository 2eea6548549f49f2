"""Read the weights of a language model as NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from charembed.lm.model import CharLM


def layer_weights(lm: CharLM, layer: int) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a layer by name, with the gates of an LSTM in the order i, f, o, g.

    In this order, the gates that pass through a sigmoid are next to each other.
    """
    weights = {name: as_array(weight) for name, weight in lm.rnn.layer_parameters(layer).items()}
    if lm.config.cell in ("lstm", "peephole_lstm"):
        for name in ("weight_ih", "weight_hh", "bias"):
            i, f, g, o = np.split(weights[name], 4)
            weights[name] = np.concatenate([i, f, o, g])
    return weights


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor as a float32 array."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
