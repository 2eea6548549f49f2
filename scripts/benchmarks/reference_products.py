"""Products of square matrices, as reference for the speed of a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from charembed.recurrent.products import linear

_SIZE = 1024
"""Rows of the matrices, which fit the cache of a CPU; eight times as many on a GPU."""
_PRODUCTS = 10
"""Products per measurement."""


@dataclass(frozen=True)
class ReferenceProduct:
    """A way to multiply matrices."""

    run: Callable[[], None]
    """Function that computes some products."""
    flops: float
    """Floating-point operations of one call."""


def reference_products(device: torch.device | str) -> dict[str, ReferenceProduct]:
    """Return products by `torch.mm`, and by the fastest routine PyTorch has (oneDNN on a CPU), in float32."""
    return _products(device, torch.float32, {"torch.mm": torch.mm, "fastest product": linear})


def bfloat16_product(device: torch.device | str) -> ReferenceProduct:
    """Return products in bfloat16."""
    return _products(device, torch.bfloat16, {"bfloat16": torch.mm})["bfloat16"]


def _products(
    device: torch.device | str, dtype: torch.dtype, functions: dict[str, Callable[[Tensor, Tensor], Tensor]]
) -> dict[str, ReferenceProduct]:
    size = _SIZE if torch.device(device).type == "cpu" else 8 * _SIZE
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def repeat(multiply: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(_PRODUCTS):
                multiply(left, right)

        return run

    flops = 2.0 * size**3 * _PRODUCTS
    return {name: ReferenceProduct(repeat(multiply), flops) for name, multiply in functions.items()}
