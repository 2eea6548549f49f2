"""Receives the name of a device; hands it on if PyTorch can compute there on this machine, and what it is good at."""

from __future__ import annotations

import platform

import torch

from charembed.errors import CharEmbedError


def check_device(name: torch.device | str) -> torch.device:
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


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware: elsewhere PyTorch does so more slowly than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Not public, and absent in older releases: then nothing is known, and float32 is always right.
        asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(ask is not None and ask() for ask in asked)
    return False


def runs_bfloat16_lstm(device: torch.device) -> bool:
    """Whether PyTorch runs an LSTM in its automatic mixed precision of bfloat16 on a device: on a CPU without AVX-512
    it cannot, however slowly."""
    with torch.random.fork_rng(devices=[]):  # first weights are drawn
        lstm = torch.nn.LSTM(1, 1).to(device)
    x = torch.zeros(1, 1, 1, device=device)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            lstm(x)
    except RuntimeError:
        return False
    return True


def has_int8_units() -> bool:
    """Whether the CPU multiplies int8 matrices without loss: older x86 ones add pairs of products in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64", "x86"):
        return True
    asked = getattr(torch.cpu, "_is_avx512_vnni_supported", None) or getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(asked and asked())
