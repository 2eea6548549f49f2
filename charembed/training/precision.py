"""Choose the precision that a model is trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from charembed.errors import CharEmbedError
from charembed.lm.model import CharLMConfig
from charembed.recurrent.autocast import runs_bfloat16_lstm
from charembed.util.devices import has_bfloat16_units

ComputePrecision = Literal["float32", "tf32", "bfloat16"]
"""A precision that steps are computed in."""
Precision = Literal["auto", "float32", "tf32", "bfloat16", "bf16"]
"""A precision as users may write it."""
MAX_BFLOAT16_HIDDEN_SIZE = 768
"""On a CPU, PyTorch's LSTM in bfloat16 is slower than in float32 above this (docs/benchmarks/training.md)."""


def normalize_precision(name: str) -> str:
    """Return the name of a precision, with `bf16`, as version 0.1.0 wrote it, spelled `bfloat16`."""
    return "bfloat16" if name == "bf16" else name


def resolve_precision(precision: Precision, model: CharLMConfig, device: torch.device) -> ComputePrecision:
    """Return the precision that a configured one stands for on this machine.

    `auto` is bfloat16 where that is faster: for an LSTM on a device with bfloat16 units, on a CPU up to hidden size
    768.
    """
    if precision in ("bfloat16", "bf16"):
        return "bfloat16"
    if precision == "tf32":
        return "tf32"
    if precision == "float32" or model.cell != "lstm":
        return "float32"
    is_faster = device.type != "cpu" or model.hidden_size <= MAX_BFLOAT16_HIDDEN_SIZE
    return "bfloat16" if is_faster and has_bfloat16_units(device) else "float32"


def can_train_in(precision: Precision, model: CharLMConfig, device: torch.device) -> bool:
    """Return whether PyTorch can run a model in a precision on a device."""
    return normalize_precision(precision) != "bfloat16" or model.cell != "lstm" or runs_bfloat16_lstm(device)


def check_resumable_in(precision: ComputePrecision, model: CharLMConfig, device: torch.device, path: Path) -> None:
    """Check that a run can be resumed in the precision that it was started in, perhaps on another machine.

    Args:
        precision: the precision.
        model: the architecture.
        device: the device to resume on.
        path: folder of the run.

    Raises:
        CharEmbedError: it cannot.
    """
    if not can_train_in(precision, model, device):
        raise CharEmbedError(
            f"the run in {path} was started in bfloat16, and PyTorch cannot run an LSTM in bfloat16 on this CPU:"
            " resume it on another machine, or start a new run from its last model with init"
        )
