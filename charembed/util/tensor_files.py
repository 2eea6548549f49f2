"""Read the content of safetensors files."""

from __future__ import annotations

import json
from typing import Any

import safetensors
import safetensors.numpy
from numpy.typing import NDArray


def read_tensors(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Args:
        content: the bytes of the file.

    Raises:
        ValueError: they are not a safetensors file, or have a tensor of a type that NumPy lacks.
    """
    try:
        tensors = safetensors.numpy.load(content)
    # A type that NumPy lacks is a KeyError or an AttributeError, depending on the version of safetensors.
    except (safetensors.SafetensorError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error
    # The library has checked the header, but its function for bytes does not return the metadata.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})
