"""Check the arguments and inputs of a recurrence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.recurrent.states import S


def check_sizes(input_size: int, hidden_size: int, num_layers: int, proj_size: int | None) -> None:
    """
    Raises:
        CharEmbedError: A size is not a positive integer, or the projection is not narrower than the hidden state.
    """
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    if proj_size is not None:
        sizes["proj_size"] = proj_size
    for name, size in sizes.items():
        if not hasattr(size, "__index__") or size < 1:
            raise CharEmbedError(f"{name} must be a positive integer, got {size!r}")
    if proj_size is not None and proj_size >= hidden_size:
        raise CharEmbedError(f"proj_size must be smaller than hidden_size ({hidden_size}), got {proj_size}")


def check_flag(name: str, value: object) -> None:
    """
    Raises:
        CharEmbedError: The value is not a bool.
    """
    if not isinstance(value, bool):
        raise CharEmbedError(f"{name} must be True or False, got {value!r}")


def check_dropout(dropout: float) -> None:
    """
    Raises:
        CharEmbedError: The probability is not a number in [0, 1).
    """
    if not isinstance(dropout, (int, float)) or not 0.0 <= dropout < 1.0:
        raise CharEmbedError(f"dropout must be at least 0 and less than 1, got {dropout!r}")


def check_input(input: Tensor, input_size: int) -> None:
    """
    Raises:
        CharEmbedError: The input is not a tensor of shape (seq_len, batch, input_size) with at least one time step.
    """
    if not isinstance(input, Tensor):
        raise CharEmbedError(f"input must be a tensor, got a {type(input).__name__}")
    if input.dim() != 3 or input.shape[0] < 1 or input.shape[2] != input_size:
        raise CharEmbedError(
            f"input must have shape (seq_len, batch, {input_size}) and at least one time step, got {tuple(input.shape)}"
        )


def check_state(state: object, zeros: S) -> S:
    """Return a state given by the caller as the type of state that the recurrence uses.

    Args:
        state: State or tuple of tensors.
        zeros: State of the right type and shapes.

    Raises:
        CharEmbedError: The number of tensors or a shape does not match.
    """
    state_type = type(zeros)
    if not isinstance(state, tuple) or not all(isinstance(tensor, Tensor) for tensor in state):
        raise CharEmbedError(
            f"state must be {state_type.__name__}({', '.join(zeros._fields)}), got {type(state).__name__};"
            " pass lengths by keyword, as lengths=…"
        )
    if [tensor.shape for tensor in state] != [tensor.shape for tensor in zeros]:
        expected = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zeros._asdict().items())
        raise CharEmbedError(
            f"state must have the shapes {expected}, got {', '.join(str(tuple(tensor.shape)) for tensor in state)}"
        )
    return state_type(*state)


def check_types(input: Tensor, state: S, weight: Tensor) -> None:
    """
    Raises:
        CharEmbedError: The input or the state has another type or device than the weights, and autocast is off.
    """
    device_type = input.device.type
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return
    for name, tensor in zip(("input", *state._fields), (input, *state), strict=True):
        if (tensor.dtype, tensor.device) != (weight.dtype, weight.device):
            raise CharEmbedError(
                f"{name} is {tensor.dtype} on {tensor.device}, but the weights are {weight.dtype} on {weight.device}"
            )


def check_lengths(lengths: Tensor | Sequence[int], seq_len: int, batch: int) -> Tensor:
    """Return the lengths as a tensor on the CPU. Shape: (batch,)

    Raises:
        CharEmbedError: They are not one integer from 1 to `seq_len` for each sequence.
    """
    # Anything that is not a tensor of numbers fails the check below.
    try:
        counts = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        counts = torch.empty(0, device="cpu")
    is_integer = not counts.is_floating_point() and not counts.is_complex()
    if counts.shape != (batch,) or not is_integer or not bool(((counts >= 1) & (counts <= seq_len)).all()):
        raise CharEmbedError(f"lengths must be {batch} integers from 1 to {seq_len}, got {lengths}")
    return counts.long()
