"""Put the weights of a layer into one piece of memory, as cuDNN reads them.

`torch.lstm`, `torch.gru` and `torch.rnn_tanh` take the weights of a layer as four tensors: those of the input and of
the state, and a bias for each. Where they do not lie in one piece of memory, PyTorch warns and copies all of them at
each call. The pieces made here hold, one after the other,

    weight_ih | weight_hh | bias | zeros | own values of the second bias, if it has any

so that the parameters of the module become views of the piece, and its last two parts are the second bias, which the
recurrences of this package lack or share. PyTorch compares the addresses with those that cuDNN expects, and copies as
before if they differ. Parameters keep their identity, names, shapes and values. Wherever the piece is lost (another
device or type, a copy of the module, other parameters), the next call makes a new one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from weakref import WeakSet

import torch
from torch import Tensor, nn


class _Pieces:
    """The memory of the pieces made here, in which the zeros are known to be zeros, and the lock to make them with."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the pieces, and take a new lock."""
        self.made: WeakSet[torch.UntypedStorage] = WeakSet()
        self.lock = threading.Lock()


_pieces = _Pieces()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    # A thread that is missing in the forked process may hold the lock.
    os.register_at_fork(after_in_child=_pieces.reset)


def in_one_piece(weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, bias_hh: Tensor | None = None) -> list[Tensor]:
    """Return the weights of a layer as a function of PyTorch takes them, in one piece of memory.

    Args:
        weight_ih: weights of the input. Shape: (rows, width)
        weight_hh: weights of the state. Shape: (rows, hidden)
        bias: first bias. Shape: (rows,)
        bias_hh: last values of the second bias; the others are zero, and by default all are. Shape: (at most rows,)

    Returns:
        weight_ih, weight_hh, the first bias and the second bias.
    """
    weights = [weight_ih, weight_hh, bias] if bias_hh is None else [weight_ih, weight_hh, bias, bias_hh]
    rows = len(bias)
    # Tools that prune or replicate a module, or call it with other weights, replace its parameters with plain tensors.
    if not all(isinstance(weight, nn.Parameter) for weight in weights):
        return list(_copy(weights))
    with _pieces.lock:
        if not _are_in_one_piece(weights):
            # Also within inference mode, where new tensors would be of no use outside it.
            with torch.inference_mode(False), torch.no_grad():
                *views, second = _copy(weights)
                _pieces.made.add(second.untyped_storage())
                own = () if bias_hh is None else (second[rows - len(bias_hh) :],)
                for weight, view in zip(weights, (*views, *own), strict=True):
                    weight.data = view
    # The second bias begins behind the first one, before its own values, so that these get their gradients.
    start = bias.storage_offset() + rows
    view = (bias.detach() if bias_hh is None else bias_hh).as_strided((rows,), (1,), start)
    return [weight_ih, weight_hh, bias, view]


def _copy(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copy weights into a new piece, and return the four views that a function of PyTorch takes. Differentiable."""
    weight_ih, weight_hh, bias, *own = weights
    zeros = bias.new_zeros(len(bias) - sum(map(len, own)))
    piece = torch.cat([weight_ih.flatten(), weight_hh.flatten(), bias, zeros, *own])
    first, second, biases = torch.split(piece, [weight_ih.numel(), weight_hh.numel(), 2 * len(bias)])
    return first.view_as(weight_ih), second.view_as(weight_hh), biases[: len(bias)], biases[len(bias) :]


def _are_in_one_piece(weights: Sequence[Tensor]) -> bool:
    """Return whether weights are the views of one piece made here."""
    if weights[0].untyped_storage() not in _pieces.made:
        return False
    weight_ih, weight_hh, bias, *own = weights
    starts = [0, weight_ih.numel(), weight_ih.numel() + weight_hh.numel()]
    starts += [starts[2] + 2 * len(bias) - len(second_bias) for second_bias in own]
    first, size = weight_ih.data_ptr(), weight_ih.element_size()
    return weight_ih.storage_offset() == 0 and all(
        weight.data_ptr() == first + start * size and weight.is_contiguous()
        for weight, start in zip(weights, starts, strict=True)
    )
