"""Exchange decisions, losses and states between the processes of one training run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import Direction

TIMEOUT = timedelta(minutes=30)
"""How long to wait for a process that neither answers nor is known to be lost: longer than a validation takes."""
READING_TIMEOUT = timedelta(days=7)
"""How long the other processes wait while the main process reads and encodes the text."""

T = TypeVar("T")


def launched_processes() -> int:
    """Return how many processes `torchrun` or `accelerate launch` started for this run; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one model together, each on its own lanes of text. By default, one process alone.

    A single process exchanges nothing: each method returns what it was given.
    """

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine, which is the number of its GPU."""
    _groups: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def join(cls, device: torch.device, directions: Sequence[Direction]) -> Iterator[DistributedContext]:
        """Join the other processes, as `torchrun` and `accelerate launch` describe them in the environment.

        Args:
            device: the device to train on; on CUDA, gradients are averaged by NCCL, elsewhere by Gloo.
            directions: the directions to train.

        Raises:
            CharEmbedError: the other processes cannot be reached, or one of them is lost later.
        """
        world_size = launched_processes()
        if world_size == 1:
            yield cls()
            return
        # Connect. The default group waits for days, since reading the text may take them.
        try:
            dist.init_process_group("gloo", timeout=READING_TIMEOUT)
            backend = "nccl" if device.type == "cuda" else "gloo"
            # One group for each direction, because both exchange gradients at the same time.
            groups: dict[str, Any] = {
                direction: dist.new_group(backend=backend, timeout=TIMEOUT) for direction in directions
            }
            groups["decisions"] = dist.new_group(backend="gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise CharEmbedError(f"the {world_size} processes of this run cannot reach each other: {error}") from error

        # Train. PyTorch raises RuntimeError in every process that was exchanging something with a lost one.
        try:
            yield cls(dist.get_rank(), world_size, int(os.environ.get("LOCAL_RANK", "0")), groups)
        except RuntimeError as error:
            raise CharEmbedError(
                f"process {dist.get_rank()} of {world_size} has lost contact with the others ({error}): to resume from"
                " the last checkpoint, run the same command again"
            ) from error
        finally:
            dist.destroy_process_group()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes the files and log lines and decides for all."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.world_size > 1

    def group(self, direction: Direction) -> Any:
        """Return the process group in which the gradients of a direction are averaged."""
        return self._groups[direction]

    def broadcast_object(self, value: T) -> T:
        """Return the main process's value in every process, however long it takes to arrive."""
        if not self.is_distributed:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_floats(self, values: list[float]) -> list[float]:
        """Return the main process's numbers in every process."""
        if not self.is_distributed:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, 0, group=self._groups["decisions"])
        return tensor.tolist()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes, in every process."""
        if self.is_distributed:
            values = values.cpu()
            dist.all_reduce(values, group=self._groups["decisions"])
            values = values / self.world_size
        return values

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, by rank and on the CPU, in every process."""
        if not self.is_distributed:
            return [tensor]
        # Gloo gathers on the CPU; checkpoints need the tensors there anyway.
        tensors = [torch.empty_like(tensor, device="cpu") for _ in range(self.world_size)]
        dist.all_gather(tensors, tensor.cpu().contiguous(), group=self._groups["decisions"])
        return tensors
