"""Receives a function of CUDA tensors; launches it as one CUDA graph once its shapes have come up a few times.

A step loop launches thousands of small kernels, which takes the host longer than the device needs to run them. A
captured graph is one launch. On other devices the function is simply called.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

_PATIENCE = 3
"""Calls with the same shapes before a graph is captured: capturing takes as long as some dozen calls."""
_KEEP = 16
"""Graphs kept of one owner, each with memory for all that it computes; the one used longest ago goes."""


class CapturedFunction:
    """A function captured for inputs of fixed shapes."""

    def __init__(self, function: Function, tensors: Sequence[Tensor]) -> None:
        """
        Raises:
            RuntimeError: the function cannot be captured, or gives something else when it is replayed.
        """
        self._inputs = [tensor.clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is set up on first use must be set up before
            wanted = function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)
        found = self(tensors)
        if not all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in zip(found, wanted, strict=True)
        ):
            raise RuntimeError("the captured graph computes something else")

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for place, tensor in zip(self._inputs, tensors, strict=True):
            place.copy_(tensor)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


class _Captures:
    """What has been captured, and how often what has not has been called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[Hashable, int | CapturedFunction | None] = OrderedDict()

    def call(self, function: Function, tensors: Sequence[Tensor], key: Hashable) -> tuple[Tensor, ...]:
        with self._lock:  # inputs and outputs of a graph have one place each
            found = self._calls.pop(key, 0)
            if isinstance(found, int):
                found += 1
                if found > _PATIENCE:
                    found = self._capture(function, tensors)
            self._calls[key] = found
            while len(self._calls) > _KEEP:
                self._calls.popitem(last=False)
            if isinstance(found, CapturedFunction):
                return found(tensors)
        return function(*tensors)

    @staticmethod
    def _capture(function: Function, tensors: Sequence[Tensor]) -> CapturedFunction | None:
        try:
            return CapturedFunction(function, tensors)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of this recurrence, it runs step by step: {error}", stacklevel=2)
            return None


_captures: weakref.WeakKeyDictionary[object, _Captures] = weakref.WeakKeyDictionary()


def captured(function: Function, tensors: Sequence[Tensor], *, owner: object, key: Hashable) -> tuple[Tensor, ...]:
    """Call a function, on CUDA by a graph where its shapes have come up before.

    Args:
        function: of tensors alone; what else it depends on is in the key, or does not change while the owner lives.
        tensors: its arguments, all on one device.
        owner: graphs are given up with it.
        key: which function of the owner it is.
    """
    if not tensors[0].is_cuda or torch.cuda.is_current_stream_capturing():
        return function(*tensors)
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    stream = torch.cuda.current_stream()
    captures = _captures.setdefault(owner, _Captures())
    where = (stream.device, stream.cuda_stream, torch.is_inference_mode_enabled())
    return captures.call(function, tensors, (key, shapes, where))
