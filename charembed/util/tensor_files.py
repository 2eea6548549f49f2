"""Read the content of safetensors files, and check the weights in them."""

from __future__ import annotations

from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.util.checks import shown
from charembed.util.reading import parse_json

MAX_VALUE = 1e12
"""Largest absolute value of a weight. Sums of products of several weights are finite in float32, so vectors are too."""
_MAX_HEADER = 1_000_000
"""Largest header in bytes. It has about a hundred for each tensor."""
_FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Args:
        content: the bytes of the file.

    Raises:
        ValueError: they are not a safetensors file, or have a tensor of a type that NumPy lacks.
    """
    header = _check_header(content)
    try:
        tensors = safetensors.numpy.load(content)
    except Exception as error:  # of a different type in each version of safetensors
        raise ValueError(_reason(error)) from error
    # The library has checked the header, but its function for bytes does not return the metadata.
    return tensors, parse_json(header).get("__metadata__") or {}  # null is allowed too


def read_torch_tensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, which are copies.

    Args:
        content: the bytes of the file.

    Raises:
        ValueError: they are not a safetensors file, or have a tensor of a type that PyTorch lacks.
    """
    _check_header(content)
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # of a different type in each version of safetensors
        raise ValueError(_reason(error)) from error


def check_weights(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the weights of a network in float32.

    Args:
        tensors: tensors by name.
        shapes: shape of each tensor that the network has.

    Raises:
        ValueError: missing or unexpected tensors, or one with a wrong shape, type or value.
    """
    # Names first, so that a network of another architecture is not reported as one wrong shape.
    for problem, names in (
        ("lacks the tensors", sorted(shapes.keys() - tensors.keys())),
        ("has unexpected tensors", sorted(tensors.keys() - shapes.keys())),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(f"it {problem} {', '.join(map(shown, names[:3]))}{more}")
    weights = {}
    for name, shape in sorted(shapes.items()):
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {shown(tuple(tensor.shape))}, expected {tuple(shape)}")
        if tensor.dtype not in _FLOAT_TYPES:
            raise ValueError(f"{name} has type {tensor.dtype}, expected a floating-point type of 16 to 64 bits")
        weights[name] = tensor.float()
        # Only now: a large float64 is infinite in float32.
        check_values(name, weights[name])
    return weights


def check_values(name: str, tensor: Tensor) -> None:
    """Check that vectors computed with a weight are finite.

    Raises:
        ValueError: a value is NaN, infinite or huge.
    """
    if tensor.numel():
        smallest, largest = torch.aminmax(tensor)
        if not (smallest >= -MAX_VALUE and largest <= MAX_VALUE):  # false for NaN too
            raise ValueError(f"{name} has values that are NaN, infinite or larger than {MAX_VALUE:g}")


def _check_header(content: bytes) -> bytes:
    """Return the header of a safetensors file, which is JSON.

    Raises:
        ValueError: there is none, or it is so large that parsing it would exhaust the memory.
    """
    length = int.from_bytes(content[:8], "little")
    if length > min(_MAX_HEADER, len(content) - 8):
        raise ValueError(f"its header has {length:,} bytes, expected at most {min(_MAX_HEADER, len(content)):,}")
    return content[8 : 8 + length]


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
