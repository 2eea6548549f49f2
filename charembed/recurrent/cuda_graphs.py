"""Replay a function of CUDA tensors as one CUDA graph when it is called repeatedly with the same shapes.

A step loop launches thousands of small CUDA kernels, and launching them takes the host longer than running them takes
the device. A captured graph is a single launch. Because capturing costs as much as some dozen calls, a function is
captured only once its shapes have been seen a few times. On other devices the function is called directly.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from charembed.recurrent.float32_precision import uses_tf32

TensorFunction = Callable[..., tuple[Tensor, ...]]
Replay = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]

CALLS_BEFORE_CAPTURE = 3
"""Number of direct calls with the same shapes before a graph is captured."""
MAX_GRAPHS = 16
"""Number of graphs kept for one owner, each with memory for everything it computes; the least recently used is
dropped."""


class CapturedFunction:
    """A function captured as a CUDA graph for inputs of fixed shapes."""

    def __init__(self, function: TensorFunction, tensors: Sequence[Tensor]) -> None:
        """
        Raises:
            RuntimeError: The function cannot be captured, or its replay gives different results.
        """
        self._inputs = [tensor.clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        # Warm up on a side stream: libraries allocate workspaces on first use, which must not happen while capturing.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            expected = function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        # "thread_local": other threads may use the device in the meantime.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)
        # Trust the graph only after one replay has given the same results.
        replayed = self(tensors)
        if not all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in zip(replayed, expected, strict=True)
        ):
            raise RuntimeError("the captured graph gives different results")

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copy the inputs into the graph's memory, replay the graph and copy its outputs."""
        for graph_input, tensor in zip(self._inputs, tensors, strict=True):
            graph_input.copy_(tensor)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


class GraphCache:
    """The captured functions of one owner, and call counts of those not captured yet."""

    def __init__(self, capture: Callable[[TensorFunction, Sequence[Tensor]], Replay] = CapturedFunction) -> None:
        """
        Args:
            capture: Captures a function for inputs of given shapes; raises RuntimeError where that is not possible.
        """
        self._capture = capture
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, int | Replay | None] = OrderedDict()
        """For each key the number of calls, the captured function, or None if it cannot be captured; least recently
        used first."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def call(self, function: TensorFunction, tensors: Sequence[Tensor], key: Hashable) -> tuple[Tensor, ...]:
        """Call a function, by its graph if there is one; capture it when it has been called often enough.

        Args:
            function: Function to call.
            tensors: Its arguments.
            key: Identifies the function and the shapes of its arguments.
        """
        with self._lock:  # a graph has one memory for its inputs and outputs, so one thread uses it at a time
            entry = self._entries.pop(key, 0)
            if isinstance(entry, int):
                entry += 1
                if entry > CALLS_BEFORE_CAPTURE:
                    entry = self._try_capture(function, tensors)
            # Popped and inserted again: the key is now the most recently used.
            self._entries[key] = entry
            while len(self._entries) > MAX_GRAPHS:
                self._entries.popitem(last=False)
            if entry is not None and not isinstance(entry, int):
                return entry(tensors)
        return function(*tensors)

    def _try_capture(self, function: TensorFunction, tensors: Sequence[Tensor]) -> Replay | None:
        try:
            return self._capture(function, tensors)
        except RuntimeError as error:
            warnings.warn(
                f"cannot capture this recurrence as a CUDA graph, it runs step by step: {error}", stacklevel=2
            )
            return None


_caches: weakref.WeakKeyDictionary[object, GraphCache] = weakref.WeakKeyDictionary()


def run_captured(
    function: TensorFunction, tensors: Sequence[Tensor], *, owner: object, key: Hashable
) -> tuple[Tensor, ...]:
    """Call a function, on CUDA through a graph once its shapes have been seen a few times.

    Args:
        function: Function of tensors alone. Whatever else it depends on must be part of the key, or constant during the
            owner's lifetime.
        tensors: Arguments of the function, all on one device.
        owner: Object with whose deletion the graphs are freed.
        key: Identifies the function among those of the owner.
    """
    # A function that runs while a caller captures a graph of its own becomes part of that graph.
    if not tensors[0].is_cuda or torch.cuda.is_current_stream_capturing():
        return function(*tensors)
    # A graph belongs to one stream and one kind of products; outputs captured in inference mode cannot be saved for a
    # backward pass.
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    stream = torch.cuda.current_stream()
    context = (stream.device, stream.cuda_stream, torch.is_inference_mode_enabled(), uses_tf32())
    return _caches.setdefault(owner, GraphCache()).call(function, tensors, (key, shapes, context))
