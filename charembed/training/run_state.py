"""Everything that a checkpoint stores about a run, except its tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.training.precision import ComputePrecision, normalize_precision
from charembed.training.validation import Validation

WORDS_DIGEST = "words_sha256"
"""Key, in `RunState.text`, of the digest of the words to predict."""


@dataclass
class RunState:
    """How far a run has come. The names of the fields are the keys in the checkpoint, and must not change."""

    text: dict[str, str | int]
    """Digests of the encoded text, the vocabulary and the words to predict: a run resumes only on the same ones."""
    world_size: int
    """Number of processes that train together."""
    precision: ComputePrecision
    """Precision of the computation on the machine where the run began."""
    step: int = 0
    """Number of optimizer steps taken."""
    step_of_epoch: int = 0
    """Number of steps taken in the current epoch."""
    epoch: int = 0
    """Number of the current epoch, from 0."""
    documents: int = 0
    """Documents of a stream that were read before the current epoch; 0 for text that is read as a whole."""
    seconds: float = 0.0
    """Wall-clock seconds of the run, validations included."""
    training_seconds: float = 0.0
    """Seconds of these that steps took."""
    validations: list[Validation] = field(default_factory=list)
    """All validations, in order."""
    best: Validation | None = None
    """Validation with the fewest bits per character; its model is in best/."""
    validations_done: int = 0
    """Number of validations done of those that the budget is divided by."""
    pending: list[Any] = field(default_factory=list)
    """Results of the steps since losses were last logged (`Meter.pending`)."""
    lowest: dict[str, float] = field(default_factory=dict)
    """Lowest mean loss of each direction, in bits per character (`Meter.lowest`)."""
    lr_factor: float = 1.0
    """Factor on the learning rate, halved by each rollback."""
    rollbacks: int = 0
    """Number of rollbacks."""
    log_offset: int = 0
    """Bytes of log.jsonl that belong to the steps taken."""
    static_vectors: dict[str, str] | None = None
    """Digest and source of the static vectors (`RunVectors.identity`); None without, as in versions before them."""

    @property
    def last(self) -> Validation | None:
        """The latest validation."""
        return self.validations[-1] if self.validations else None

    def check_resumable(self, run: RunState, path: Path) -> None:
        """Check that a run can resume from this state.

        Args:
            run: state of the run before its first step.
            path: folder of the run.

        Raises:
            CharEmbedError: the run has another number of processes, or predicts other words.
        """
        if self.world_size != run.world_size:
            raise CharEmbedError(
                f"the run in {path} was started with {self.world_size} processes, not {run.world_size}: resume it with"
                f" {self.world_size}, or start over with --overwrite"
            )
        # Other versions may find other words in the same text. The first one to predict words did not record them.
        if self.text.get(WORDS_DIGEST) not in (None, run.text.get(WORDS_DIGEST)):
            raise CharEmbedError(
                f"the run in {path} was started with other frequent words, as another version of charembed finds them:"
                " resume it with that version, or start over with --overwrite"
            )

    def to_metadata(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> RunState:
        """Return the state that `to_metadata` wrote, in this version or in 0.1.0, which called bfloat16 `bf16`.

        Raises:
            TypeError, KeyError, AttributeError: the metadata is damaged.
        """
        best = metadata["best"]
        return cls(
            **metadata
            | {
                "precision": normalize_precision(metadata["precision"]),
                "validations": [Validation.from_metadata(fields) for fields in metadata["validations"]],
                "best": None if best is None else Validation.from_metadata(best),
            }
        )
