"""The quantity that training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def next_character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next character over a window, in nats.

    Args:
        logits: unnormalised scores of each character id, of any floating-point type; the loss is computed in float32.
            Shape: (seq_len, batch, vocab_size)
        targets: ids of the characters that follow. Shape: (seq_len, batch)

    Returns:
        Shape: ()
    """
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
