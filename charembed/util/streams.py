"""Queue work for a device beside other work, and copy to and from the device without waiting for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy of a tensor of the host on a device; on CUDA, without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    # PyTorch keeps the pinned memory until the copy is complete, and then uses it for the next one.
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A copy of a tensor in the host's memory that may still be under way."""

    def __init__(self, tensor: Tensor, arrived: Any = None) -> None:
        """
        Args:
            tensor: where the copy goes.
            arrived: event on CUDA after which it is complete; None if it is already.
        """
        self._tensor = tensor
        self._arrived = arrived

    def wait(self) -> Tensor:
        """Return the copy once it is complete."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor


class DeviceQueue:
    """Work that a device does in the order of its calls, beside the work of other queues: a stream on CUDA.

    On CUDA, calls return before their work is done. On other devices there is a single queue, the device's own, and
    copies are complete when they return.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which the calls of this thread are queued here."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def follow_caller(self) -> None:
        """Do what is queued here from now on after what the caller has queued elsewhere so far."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def lead_caller(self) -> None:
        """Do what the caller queues elsewhere from now on after what is queued here so far."""
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def send(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor of the host on the device, without waiting. Call it in the context `active`."""
        return send(tensor, self.device)

    def fetch(self, tensor: Tensor) -> HostCopy:
        """Begin to copy a tensor of the device to the host. Call it in the context `active`."""
        if self._stream is None:
            return HostCopy(tensor.cpu())
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(self._stream)
        return HostCopy(pinned, arrived)

    def free_bytes(self) -> int:
        """Return how much memory of a CUDA device is free, including what PyTorch keeps for later."""
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + unused


@contextmanager
def side_by_side(queues: Collection[DeviceQueue]) -> Iterator[None]:
    """Queue work that follows what the caller has queued so far, and precedes what the caller queues afterwards."""
    for queue in queues:
        queue.follow_caller()
    yield
    for queue in queues:
        queue.lead_caller()
