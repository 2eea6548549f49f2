"""Matrix products with the weights of a recurrence, by oneDNN where PyTorch offers it.

A recurrence multiplies in two ways: large products over the rows of all time steps (`linear`), and one weight with the
small state of each step (`StepProduct`). For the second, oneDNN can reorder the weight once into the layout that its
kernels read fastest; `ProductCache` keeps the reordered weights.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_MIN_CALLS_TO_REORDER = 8
"""Number of products from which reordering a weight costs less than it saves."""
_VECTOR_ELEMENTS = 32
"""Elements of float32 that PyTorch computes at once: two registers of AVX-512."""


@cache
def _onednn_linear_works() -> bool:
    """Return whether PyTorch has its internal oneDNN product, the one its compiler uses, and computes it correctly.

    The operator is not public, so it is tried before it is trusted. It is worth the trouble: on CPUs where MKL does not
    use AVX-512, it is twice as fast as `torch.mm`.
    """
    # On the CPU in float32 whatever the caller's default device and type are; small integers make the result exact.
    numbers = torch.arange(37, dtype=torch.float32, device="cpu")
    x, weight, bias = numbers[:12].view(3, 4), numbers[12:32].view(5, 4), numbers[32:]
    # The answer is remembered, so it must not depend on the caller's automatic mixed precision.
    with torch.autocast("cpu", enabled=False):
        try:
            reordered = torch.ops.mkldnn._reorder_linear_weight(weight, 3)
            from_plain, from_reordered = (
                torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "") for w in (weight, reordered)
            )
        except (AttributeError, RuntimeError, TypeError):
            return False
        expected = x @ weight.T + bias
    return torch.equal(from_plain, expected) and torch.equal(from_reordered, expected)


def _runs_on_onednn(*tensors: Tensor) -> bool:
    supported = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() > 0 for t in tensors)
    return supported and _onednn_linear_works()


def padded_rows(rows: int, width: int | None = None) -> int:
    """Return a number of rows to compute in place of fewer ones, so that oneDNN computes each in the same way.

    There are two reasons to compute more rows than needed. A matrix product of one row may be summed in another order
    than one of many. And every new number of rows costs time and memory, because oneDNN compiles kernels for it.

    Args:
        rows: number of rows needed.
        width: width of the rows, if PyTorch applies functions to each of their elements; None if it does not.

    Returns:
        A number that differs little from `rows`, or not at all, if the width is None or a multiple of 32.
    """
    multiple = next(step for most, step in ((8, 1), (16, 2), (32, 4), (math.inf, 8)) if rows <= most)
    if width is not None:
        # PyTorch computes functions of the last elements, which do not fill a vector register, one by one, and rounds
        # them differently: let there be none.
        multiple = math.lcm(multiple, _VECTOR_ELEMENTS // math.gcd(width, _VECTOR_ELEMENTS))
    return max(math.ceil(rows / multiple) * multiple, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b. Not differentiable.

    Args:
        x: Shape: (rows, input)
        weight: W. Shape: (output, input)
        bias: b. Shape: (output,)

    Returns:
        Shape: (rows, output)
    """
    if _runs_on_onednn(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


class StepProduct:
    """The function x ↦ x Wᵀ + b + addend, for a weight that is multiplied with many inputs. Not differentiable."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, rows: int, calls: int) -> None:
        """
        Args:
            weight: W. Shape: (output, input)
            bias: b. Shape: (output,)
            rows: Expected number of rows of x in a call, a hint.
            calls: Expected number of calls, a hint.
        """
        self._weight = weight
        self._bias = bias
        self._reordered: Tensor | None = None
        if calls >= _MIN_CALLS_TO_REORDER and rows > 0 and _runs_on_onednn(weight):
            self._reordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """
        Args:
            x: Shape: (rows, input)
            addend: Shape: (rows, output)

        Returns:
            A new tensor. Shape: (rows, output)
        """
        product: Tensor
        if self._reordered is None:
            product = functional.linear(x, self._weight, self._bias)
        else:
            product = torch.ops.mkldnn._linear_pointwise(x, self._reordered, self._bias, "none", [], "")
        return product if addend is None else product.add_(addend)


class ProductCache:
    """Step products of several weights, each created once. Valid as long as the weights do not change."""

    def __init__(self, rows: int | None = None) -> None:
        """
        Args:
            rows: Expected number of rows of x in a call, for a cache that serves many calls. By default, the hints of
                the first request for each weight decide.
        """
        self._rows = rows
        self._products: dict[Hashable, StepProduct] = {}

    def get(self, weight: Tensor, bias: Tensor | None = None, *, factor: int = 1, rows: int, calls: int) -> StepProduct:
        """Return the function x ↦ factor · (x Wᵀ + b).

        Args:
            weight: W. Shape: (output, input)
            bias: b. Shape: (output,)
            factor: Integer by which weight and bias are multiplied.
            rows: Number of rows of x in this request.
            calls: Expected number of calls, a hint.
        """
        key = (weight.data_ptr(), weight.shape, weight.stride(), factor)
        if key not in self._products:
            if factor != 1:
                weight, bias = factor * weight, None if bias is None else factor * bias
            if self._rows is not None:  # a cache for many calls: reordering always pays
                rows, calls = self._rows, _MIN_CALLS_TO_REORDER
            self._products[key] = StepProduct(weight, bias, rows=rows, calls=calls)
        return self._products[key]
