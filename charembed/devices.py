"""Receives the name of a device; hands it on if PyTorch can compute there on this machine."""

from __future__ import annotations

import torch

from charembed.errors import CharEmbedError


def usable_device(name: torch.device | str) -> torch.device:
    """The device of a name, tried out.

    Raises:
        CharEmbedError: no such device here, or PyTorch was built without it.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CharEmbedError(f"device {str(name)!r} cannot be used: {reason}") from error
    return device
