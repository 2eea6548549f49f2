"""Whether PyTorch's fused LSTM runs under automatic mixed precision."""

from __future__ import annotations

import functools

import torch


@functools.cache
def runs_bfloat16_lstm(device: torch.device) -> bool:
    """Return whether PyTorch runs an LSTM under automatic mixed precision in bfloat16 on the device.

    On a CPU without AVX-512 it raises an error. The answer is remembered.
    """
    # Creating the LSTM draws random weights: leave the global generator as it was.
    with torch.random.fork_rng(devices=[]):
        lstm = torch.nn.LSTM(1, 1).to(device)
    x = torch.zeros(1, 1, 1, device=device)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            lstm(x)
    except RuntimeError:
        return False
    return True


def runs_fused_on_cpu() -> bool:
    """Return whether PyTorch's fused LSTM runs on the CPU, as far as automatic mixed precision goes, if it is on."""
    if not torch.is_autocast_enabled("cpu"):
        return True
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and runs_bfloat16_lstm(torch.device("cpu"))
