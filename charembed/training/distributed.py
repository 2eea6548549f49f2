"""Receives a launch by torchrun, or none; hands on what the processes of one run have to tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import Direction

PATIENCE = timedelta(minutes=30)
"""How long to wait for a process that neither answers nor is known to be gone: longer than a validation takes."""
READING = timedelta(days=7)
"""How long for the first one to read the text."""


def launched() -> int:
    """How many processes `torchrun` or `accelerate launch` has started for this run; 1 where they have not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one model together, each on text of its own; usually one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    _groups: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def join(cls, device: torch.device, directions: Sequence[Direction]) -> Iterator[DistributedContext]:
        """Join the others, as `torchrun` and `accelerate launch` have set the environment; alone where they have not.

        Raises:
            CharEmbedError: the others cannot be reached, or one of them is lost while this one goes on.
        """
        world_size = launched()
        if world_size == 1:
            yield cls()
            return
        try:
            dist.init_process_group("gloo", timeout=READING)
            backend = "nccl" if device.type == "cuda" else "gloo"
            # One group a direction: both talk at the same time.
            groups: dict[str, Any] = {
                direction: dist.new_group(backend=backend, timeout=PATIENCE) for direction in directions
            }
            groups["decisions"] = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise CharEmbedError(f"the {world_size} processes of this run cannot reach each other: {error}") from error
        try:
            yield cls(dist.get_rank(), world_size, int(os.environ.get("LOCAL_RANK", "0")), groups)
        except RuntimeError as error:
            raise CharEmbedError(
                f"process {dist.get_rank()} of {world_size} cannot go on, another one may be lost ({error}): run the"
                " same command again to go on from the last checkpoint"
            ) from error
        finally:
            dist.destroy_process_group()

    @property
    def is_main_process(self) -> bool:
        """Whether this one writes files and messages and decides for all."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1

    def group(self, name: str) -> Any:
        """The group in which a direction's gradients are averaged."""
        return self._groups[name]

    def broadcast_object(self, text: str) -> str:
        """The text that the first process has, in every process, however long it takes to come by it."""
        if not self.is_distributed:
            return text
        length = torch.tensor([len(text.encode(errors="surrogateescape"))])
        dist.broadcast(length, 0)
        raw = bytearray(text.encode(errors="surrogateescape") if self.is_main_process else int(length))
        letters = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
        dist.broadcast(letters, 0)
        return letters.numpy().tobytes().decode(errors="surrogateescape")

    def broadcast_floats(self, values: list[float]) -> list[float]:
        """The numbers that the first process has, in every process."""
        if not self.is_distributed:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, 0, group=self._groups["decisions"])
        return tensor.tolist()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, in every process."""
        if self.is_distributed:
            values = values.cpu()
            dist.all_reduce(values, group=self._groups["decisions"])
            values = values / self.world_size
        return values

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, by rank, in every process."""
        if not self.is_distributed:
            return [tensor]
        found = [torch.empty_like(tensor, device="cpu") for _ in range(self.world_size)]
        dist.all_gather(found, tensor.cpu().contiguous(), group=self._groups["decisions"])
        return found
