"""Fast in-place activation functions of the step loops, and their derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
"""`sigmoid_backward(d_y, y, grad_input=out)` writes d_y · y (1 − y), the gradient of x where y = σ(x), to `out`."""
tanh_backward = torch.ops.aten.tanh_backward.grad_input
"""`tanh_backward(d_y, y, grad_input=out)` writes d_y · (1 − y²), the gradient of x where y = tanh(x), to `out`."""

_MINUS_ONE = torch.tensor(-1.0, dtype=torch.float32, device="cpu")


def tanh_of_half(x: Tensor, out: Tensor | None) -> Tensor:
    """Compute tanh(x / 2) into `out`, by default into x. The content of x is lost.

    In float32 on a CPU it is computed as 2 σ(x) − 1, four times as fast as PyTorch's tanh. The absolute error is 2e-7:
    large for values of that size, negligible for states whose units reach 1.
    """
    out = x if out is None else out
    if x.dtype == torch.float32 and x.device.type == "cpu":
        return torch.add(_MINUS_ONE, x.sigmoid_(), alpha=2, out=out)
    return torch.tanh(x.mul_(0.5), out=out)


def tanh(x: Tensor, out: Tensor) -> Tensor:
    """Compute tanh(x) into `out` by `tanh_of_half`. The content of x is kept."""
    return tanh_of_half(torch.mul(x, 2, out=out), out)


def sigmoid(x: Tensor, out: Tensor | None) -> Tensor:
    """Compute σ(x) into `out`, by default into x."""
    return torch.sigmoid(x, out=x if out is None else out)
