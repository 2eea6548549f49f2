"""A linear-chain conditional random field: the likelihood of tag sequences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from charembed.tagging.decoding import TransitionScores
from charembed.tagging.tag_layer import TagLayer

IMPOSSIBLE = -1e4
"""Score that is added to an impossible transition. Finite, so that no gradient is undefined."""


class LinearChainCRF(nn.Module):
    """Scores sequences of tags by the tags and by the pairs of adjacent tags (Lafferty, McCallum & Pereira 2001).

    The score of a sequence is the sum of the emission scores of its tags, of the transition scores of its pairs, and of
    the scores of its first and last tag. The probability is the exponential of the score, normalized over all sequences
    (equation 1 of Lample et al. 2016, with a score for the last tag in place of the tag "end"). Transitions that the
    layer does not allow have probability 0.
    """

    start_penalty: Tensor
    transition_penalty: Tensor

    def __init__(self, layer: TagLayer) -> None:
        super().__init__()
        count = len(layer.tags)
        self.start = nn.Parameter(torch.zeros(count))
        self.transitions = nn.Parameter(torch.zeros(count, count))
        self.end = nn.Parameter(torch.zeros(count))
        # Determined by the layer, so they are not part of the weights.
        self.register_buffer("start_penalty", _penalty(layer.possible_first()), persistent=False)
        self.register_buffer("transition_penalty", _penalty(layer.possible_transitions()), persistent=False)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return the log probability of each sentence's tags.

        Args:
            emissions: score of each tag at each word. Shape: (batch, words, tags)
            tags: number of the tag of each word; anything at padding. Shape: (batch, words)
            mask: true for words; every sentence has at least one, and padding comes last. Shape: (batch, words)

        Returns:
            Shape: (batch,)
        """
        start, transitions = self._constrained()
        return self._score(emissions, tags, mask, start, transitions) - self._log_partition(
            emissions, mask, start, transitions
        )

    @torch.no_grad()
    def transition_scores(self) -> TransitionScores:
        """Return the scores for decoding."""
        start, transitions = self._constrained()
        return TransitionScores(*(tensor.float().cpu().numpy() for tensor in (start, transitions, self.end)))

    def _constrained(self) -> tuple[Tensor, Tensor]:
        return self.start + self.start_penalty, self.transitions + self.transition_penalty

    def _score(self, emissions: Tensor, tags: Tensor, mask: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
        """Return the score of one sequence per sentence. Shape: (batch,)"""
        emitted = emissions.gather(2, tags[:, :, None])[:, :, 0] * mask
        pairs = transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]
        last = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1)[:, 0]
        return start[tags[:, 0]] + emitted.sum(dim=1) + pairs.sum(dim=1) + self.end[last]

    def _log_partition(self, emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
        """Return the logarithm of the sum of the exponentials of the scores of all sequences. Shape: (batch,)"""
        # The forward algorithm: one step per word, in logarithms.
        alpha = start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            following = torch.logsumexp(alpha[:, :, None] + transitions, dim=1) + emissions[:, t]
            alpha = torch.where(mask[:, t, None], following, alpha)
        return torch.logsumexp(alpha + self.end, dim=1)


def _penalty(possible: np.ndarray) -> Tensor:
    return torch.from_numpy(np.where(possible, 0.0, IMPOSSIBLE).astype(np.float32))
