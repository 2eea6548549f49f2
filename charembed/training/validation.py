"""The result of scoring a model on the validation text during a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.lm.model import Direction
from charembed.lm.scoring import Score
from charembed.text.corpus import CorpusConfig
from charembed.training.config import escape_sources


@dataclass(frozen=True)
class Validation:
    """Scores of the model at one step of a run."""

    step: int
    """Number of optimizer steps taken before it."""
    seconds: float
    """Seconds since the run began, this validation included."""
    characters: int
    """Characters that each direction had read in training."""
    scores: dict[Direction, Score]
    """Score of each direction."""
    nats_per_word: dict[Direction, float] = field(default_factory=dict)
    """Mean loss of the words of each direction; empty if only characters are predicted."""

    @property
    def bits_per_character(self) -> float:
        """Mean over the directions."""
        return sum(score.bits_per_character for score in self.scores.values()) / len(self.scores)

    @property
    def by_direction(self) -> dict[Direction, float]:
        """Bits per character of each direction."""
        return {direction: score.bits_per_character for direction, score in self.scores.items()}

    def summary(self) -> dict[str, Any]:
        """Return the entry of report.json."""
        words = {"nats_per_word": self.nats_per_word} if self.nats_per_word else {}
        return {
            "step": self.step,
            "seconds": self.seconds,
            "characters": self.characters,
            "bits_per_character": self.by_direction,
            **words,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Validation:
        """Return the validation of which `dataclasses.asdict` made the metadata of a checkpoint."""
        scores = {direction: Score(**fields) for direction, fields in metadata["scores"].items()}
        return cls(**metadata | {"scores": scores})

    def provenance(self, encoded: EncodedCorpus, data: CorpusConfig, init: str | None, seed: int) -> dict[str, Any]:
        """Return what the model folder records about the origin of its weights.

        Args:
            encoded: the encoded text of the run.
            data: the configuration of the text.
            init: the model that training started from; None for a new one.
            seed: seed of the run.
        """
        # All directions are scored on the same text.
        score = next(iter(self.scores.values()))
        return {
            "corpus": escape_sources(data.train),
            "corpus_sha256": encoded.fingerprint,
            "corpus_documents": None if data.streaming else encoded.documents,
            "training_characters": None if data.streaming else encoded.characters,
            "init": init,
            "characters_seen": self.characters,
            "minutes": round(self.seconds / 60, 2),
            "bits_per_character": {direction: round(bits, 4) for direction, bits in self.by_direction.items()},
            "validation_characters": score.characters,
            "validation_unknown_rate": score.unknown_rate,
            "seed": seed,
            "torch_version": torch.__version__,
        }
