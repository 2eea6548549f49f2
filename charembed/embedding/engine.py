"""The interface of the engines that run the language models, which notices when weights change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.text.vocab import Ids

Vectors = NDArray[np.float32]

_SAMPLE_SIZE = 16
"""Number of values of each weight that are compared to notice changes PyTorch does not count."""


def weight_fingerprint(lm: CharLM) -> list[Any]:
    """Return a value that differs after weights on which states depend were replaced or changed in place.

    Changes through `.data`, which PyTorch does not count, are noticed if they alter one of the sampled values.
    """
    modules = (lm.embedding, lm.rnn) if lm.proj is None else (lm.embedding, lm.rnn, lm.proj)
    weights = [weight.detach() for module in modules for weight in module.parameters(recurse=False)]
    return [
        (
            weight.data_ptr(),
            0 if weight.is_inference() else weight._version,  # inference tensors have no version
            weight.flatten()[:: max(1, weight.numel() // _SAMPLE_SIZE)].tolist(),
        )
        for weight in weights
    ]


class Engine(ABC):
    """Runs language models, each of one direction."""

    def __init__(self, model: BiCharLM, directions: Sequence[Direction]) -> None:
        """
        Args:
            model: the language models. Their weights may change later: call `refresh` before each use.
            directions: those that are used.
        """
        self._model = model
        self._directions = directions
        self._fingerprints: dict[Direction, list[Any]] = {}

    def refresh(self) -> bool:
        """Prepare the models whose weights are new or have changed.

        Returns:
            Whether there were any.
        """
        changed = False
        for direction in self._directions:
            lm = self._model.direction(direction)
            fingerprint = weight_fingerprint(lm)
            if self._fingerprints.get(direction) != fingerprint:
                changed = True
                # Without a fingerprint, a preparation that fails, or during which the weights change, is repeated.
                self._fingerprints.pop(direction, None)
                self._prepare(direction, lm)
                if weight_fingerprint(lm) == fingerprint:
                    self._fingerprints[direction] = fingerprint
        return changed

    def is_current(self) -> bool:
        """Return whether the models have the weights with which they were prepared."""
        return all(
            self._fingerprints.get(direction) == weight_fingerprint(self._model.direction(direction))
            for direction in self._directions
        )

    @abstractmethod
    def _prepare(self, direction: Direction, lm: CharLM) -> None:
        """Prepare to run a model that is new or has new weights."""

    @abstractmethod
    def run(self, direction: Direction, ids: Ids, state: Any, flat_positions: NDArray[np.int64]) -> tuple[Vectors, Any]:
        """Read some characters, continuing from a state.

        Args:
            direction: which model to run.
            ids: the characters. Shape: (characters, readings)
            state: state returned by an earlier call with at least as many readings, of which the first ones continue;
                None to start from the zero state.
            flat_positions: positions whose states to return: character · readings + reading. Shape: (positions,)

        Returns:
            The states at the positions, and the state after the last character. Shape: (positions, output_size)
        """
