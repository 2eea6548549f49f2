"""Write tensors to safetensors files with a digest of the whole file, and check it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from charembed.util.digests import DIGEST, update_from
from charembed.util.reading import open_regular

_NO_DIGEST = "0" * 64
_SEAL = re.compile(rb'"%b":"([0-9a-f]{64})"' % DIGEST.encode())
"""The digest in the header of a file. In a text of the metadata, such quotes would be escaped."""
_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header."""


def seal_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file with a digest of all its bytes in the metadata.

    Args:
        tensors: the tensors, on any device.
        metadata: other metadata.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(on_cpu, dict(metadata) | {DIGEST: _NO_DIGEST})
    match = _SEAL.search(content)
    assert match is not None
    # The digest is that of the file with zeros in its place.
    return content[: match.start(1)] + hashlib.sha256(content).hexdigest().encode() + content[match.end(1) :]


def check_sealed(path: Path) -> None:
    """Check that a file is what `seal_tensors` returned.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or has no digest, or is not a regular file.
    """
    with open_regular(path) as file:
        length, size = file.read(_LENGTH_BYTES), path.stat().st_size
        header = file.read(min(int.from_bytes(length, "little"), size))
        match = _SEAL.search(header)
        if match is None:
            raise ValueError("it is damaged: it has no digest")
        digest = hashlib.sha256(length + header[: match.start(1)] + _NO_DIGEST.encode() + header[match.end(1) :])
        update_from(digest, file, size)
    if digest.hexdigest().encode() != match[1]:
        raise ValueError("it has changed since it was written")
