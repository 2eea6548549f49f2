"""Receives the whole state of a run; hands it to the disk, and back to a run that goes on."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_write

logger = logging.getLogger(__name__)

CHECKPOINT_VERSION = 1
SUFFIX = ".safetensors"
_NAME = re.compile(r"\d{12}")


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run, in one safetensors file. Nothing in it is ever unpickled."""

    tensors: dict[str, Tensor]
    """Weights, moments of the optimiser, hidden states, random generators."""
    facts: dict[str, Any]
    """All else, as JSON values."""

    def save(self, folder: Path, step: int, keep: int) -> None:
        """Write it aside, rename it into its place, and remove all but the latest ones.

        Raises:
            OSError: it cannot be written; those before are left as they were.
        """
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(".*.tmp"):  # of a run that was killed
            leftover.unlink()
        metadata = {"version": str(CHECKPOINT_VERSION), "facts": json.dumps(self.facts)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        atomic_write(folder / f"{step:012d}{SUFFIX}", safetensors.torch.save(tensors, metadata))
        for old in saved_checkpoints(folder)[keep:]:
            old.unlink()

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """
        Raises:
            CharEmbedError: it is damaged, or of another version.
        """
        facts = read_facts(path)
        try:
            return cls(safetensors.torch.load_file(path), facts)
        except (safetensors.SafetensorError, OSError) as error:
            raise CharEmbedError(f"{path} cannot be read: {error}") from error


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors; that these are all there is checked.

    Raises:
        CharEmbedError: it is damaged, or of another version.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("version") != str(CHECKPOINT_VERSION):
            raise CharEmbedError(f"{path} is a checkpoint of another version of charembed")
        facts: dict[str, Any] = json.loads(metadata["facts"])
        return facts
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        if isinstance(error, CharEmbedError):
            raise
        raise CharEmbedError(f"{path} cannot be read: {error}") from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The latest one that can be read; None where there is none at all.

    Raises:
        CharEmbedError: there are some, and none can be read.
    """
    paths = saved_checkpoints(folder)
    for path in paths:
        try:
            read_facts(path)
            return path
        except CharEmbedError as error:
            logger.warning("%s; trying the one before", error)
    if paths:
        raise CharEmbedError(f"no checkpoint in {folder} can be read: name another output, or say overwrite: true")
    return None


def saved_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, the latest first; files of other names are nobody's business here."""
    return sorted((path for path in folder.glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem)), reverse=True)


def remove_newer(path: Path) -> None:
    """Remove the checkpoints after one that a run goes back to: damaged ones, or of steps that are taken anew."""
    for newer in saved_checkpoints(path.parent):
        if newer.name > path.name:
            newer.unlink()
