"""Save and restore the complete state of a training run."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.training.run_state import RunState
from charembed.util.files import atomic_write
from charembed.util.reading import check_regular
from charembed.util.sealed_tensors import check_sealed, seal_tensors

logger = logging.getLogger(__name__)

CHECKPOINT_VERSION = 2
"""Version 2 has a digest of the whole file; version 1, that of charembed 0.1.0, can still be read."""
SUFFIX = ".safetensors"
_NAME = re.compile(r"\d{12}")


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run, stored in one safetensors file. Nothing in it is ever unpickled."""

    tensors: dict[str, Tensor]
    """Weights, optimizer moments, hidden states and states of the random generators."""
    state: RunState
    """Everything else."""

    def save(self, folder: Path, keep: int) -> None:
        """Write the checkpoint atomically, then remove all but the latest ones.

        Args:
            folder: where the checkpoints of the run are; made if it is missing.
            keep: number of checkpoints to keep, this one included.

        Raises:
            OSError: the file cannot be written; earlier checkpoints are left as they were.
        """
        folder.mkdir(exist_ok=True)
        # "facts" is the key of version 1, for ever.
        metadata = {"version": str(CHECKPOINT_VERSION), "facts": json.dumps(self.state.to_metadata())}
        atomic_write(folder / f"{self.state.step:012d}{SUFFIX}", seal_tensors(self.tensors, metadata))
        # Only now, when the new one is on the disk, may old ones go.
        for old in saved_checkpoints(folder)[keep:]:
            old.unlink()

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint, tensors onto the CPU.

        Raises:
            CharEmbedError: the file is damaged or from another version.
        """
        state = read_state(path)
        try:
            # Copies, because the library maps the file: products with memory that is not aligned to 16 bytes, as it is
            # in some files, differ in the last bit, and a file that changes would change the moments of the optimizer.
            tensors = safetensors.torch.load_file(path)
            return cls({name: tensor.clone() for name, tensor in tensors.items()}, state)
        except (safetensors.SafetensorError, OSError) as error:
            raise CharEmbedError(f"checkpoint {path} cannot be read: {error}") from error


def read_state(path: Path) -> RunState:
    """Return the state in a checkpoint without loading its tensors, after checking that no byte of it has changed.

    Raises:
        CharEmbedError: the file is damaged or from another version.
    """
    try:
        check_regular(path)
        # Opening checks the file's length against its header, which is all that shows damage in version 1.
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("version") == str(CHECKPOINT_VERSION):
            check_sealed(path)
        elif metadata.get("version") != "1":
            raise CharEmbedError(f"checkpoint {path} was written by another version of charembed, or is damaged")
        return RunState.from_metadata(json.loads(metadata["facts"]))
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CharEmbedError):
            raise
        raise CharEmbedError(f"checkpoint {path} cannot be read: {error}") from error


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the latest checkpoint that can be read; None if the folder has none at all.

    Raises:
        CharEmbedError: the folder has checkpoints, and none can be read.
    """
    paths = saved_checkpoints(folder)
    for path in paths:
        try:
            read_state(path)
            return path
        except CharEmbedError as error:
            logger.warning(f"{error}; trying the one before")
    if paths:
        raise CharEmbedError(
            f"no checkpoint in {folder} can be read: choose another output folder, or start over with --overwrite"
        )
    return None


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the latest first. Files with other names are ignored."""
    return sorted((path for path in folder.glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem)), reverse=True)


def remove_newer(path: Path) -> None:
    """Remove the checkpoints after one that a run returns to: they are damaged, or of steps that are taken again."""
    for newer in saved_checkpoints(path.parent):
        if newer.name > path.name:
            newer.unlink()
