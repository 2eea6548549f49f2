"""Receives the scores of a model in training; hands on what a run, its report and its model card keep of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.lm.model import Direction
from charembed.lm.scoring import Score
from charembed.training.config import TrainConfig, as_fields


@dataclass(frozen=True)
class Validation:
    """One validation during a run."""

    step: int
    seconds: float
    """Since training began, validation included."""
    characters: int
    """Read by each direction in training so far."""
    scores: dict[Direction, Score]

    @property
    def bits_per_character(self) -> float:
        """Mean of the directions."""
        return sum(score.bits_per_character for score in self.scores.values()) / len(self.scores)

    @property
    def by_direction(self) -> dict[Direction, float]:
        """Bits per character of each."""
        return {direction: score.bits_per_character for direction, score in self.scores.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Validation:
        """What `dataclasses.asdict` made of one."""
        return cls(**fields | {"scores": {direction: Score(**score) for direction, score in fields["scores"].items()}})

    def provenance(self, config: TrainConfig, encoded: EncodedCorpus) -> dict[str, Any]:
        """What the model folder says of where its weights come from.

        Args:
            config: of the run.
            encoded: its text.
        """
        score = next(iter(self.scores.values()))
        return {
            "corpus": as_fields(config)["data"]["train"],
            "corpus_sha256": encoded.fingerprint,
            "corpus_documents": None if config.data.streaming else encoded.documents,
            "training_characters": None if config.data.streaming else encoded.characters,
            "init": config.init,
            "characters_seen": self.characters,
            "minutes": round(self.seconds / 60, 2),
            "bits_per_character": {direction: round(bits, 4) for direction, bits in self.by_direction.items()},
            "validation_characters": score.characters,
            "validation_unknown_rate": score.unknown_rate,
            "seed": config.seed,
            "torch_version": torch.__version__,
        }
