"""Matrix products of a recurrence: large ones over all steps, and one weight against many small inputs."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_PACK_FROM = 8
"""Steps from which rearranging a weight once costs less than it saves."""


@cache
def _onednn_linear_works() -> bool:
    """Whether PyTorch's own oneDNN product, which its compiler uses, is there and right.

    It is no public function, so it is tried before it is trusted. It is worth it: on CPUs where MKL stays below AVX-512
    it is twice as fast as `torch.mm`.
    """
    numbers = torch.arange(37, dtype=torch.float32, device="cpu")  # whatever the caller's defaults are
    x, weight, bias = numbers[:12].view(3, 4), numbers[12:32].view(5, 4), numbers[32:]
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 3)
        plain, arranged = (torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "") for w in (weight, packed))
    except (AttributeError, RuntimeError, TypeError):
        return False
    wanted = x @ weight.T + bias
    return torch.equal(plain, wanted) and torch.equal(arranged, wanted)


def _by_onednn(*tensors: Tensor) -> bool:
    usable = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() > 0 for t in tensors)
    return usable and _onednn_linear_works()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, without a graph.

    Args:
        x: Shape: (rows, input)
        weight: Shape: (output, input)
        bias: Shape: (output,)

    Returns:
        Shape: (rows, output)
    """
    if _by_onednn(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


class StepProduct:
    """x ↦ x Wᵀ + b + addend, for one weight that many inputs meet."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, rows: int, times: int) -> None:
        """
        Args:
            weight: Shape: (output, input)
            bias: Shape: (output,)
            rows: of x to expect at a time, a hint.
            times: how often it will be called, a hint.
        """
        self._weight = weight
        self._bias = bias
        self._packed: Tensor | None = None
        if times >= _PACK_FROM and rows > 0 and _by_onednn(weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """
        Args:
            x: Shape: (rows, input)
            addend: Shape: (rows, output)

        Returns:
            A new tensor. Shape: (rows, output)
        """
        product: Tensor
        if self._packed is None:
            product = functional.linear(x, self._weight, self._bias)
        else:
            product = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return product if addend is None else product.add_(addend)


class Products:
    """Step products of some weights, each weight arranged once for as long as this lives and the weights stay."""

    def __init__(self, rows: int | None = None) -> None:
        """
        Args:
            rows: of x to expect at a time where many calls are to come; by default what the first call says counts.
        """
        self._rows = rows
        self._made: dict[Hashable, StepProduct] = {}

    def of(self, weight: Tensor, *, factor: int = 1, rows: int, times: int) -> StepProduct:
        """x ↦ factor · x Wᵀ.

        Args:
            weight: Shape: (output, input)
            factor: whole number.
            rows: of x at a time in this call.
            times: how often it will be called, a hint.
        """
        key = (weight.data_ptr(), weight.shape, weight.stride(), factor)
        if key not in self._made:
            scaled = weight if factor == 1 else factor * weight
            hints = (rows, times) if self._rows is None else (self._rows, _PACK_FROM)
            self._made[key] = StepProduct(scaled, rows=hints[0], times=hints[1])
        return self._made[key]
