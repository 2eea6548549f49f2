"""Choose the lanes, the learning rate and the precision of a run that its configuration leaves open."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from charembed.training.config import TrainConfig, flatten, open_settings
from charembed.training.precision import resolve_precision

LANES = 16
"""Lanes on a CPU, and the fewest on a GPU."""
GPU_LANES = 512
"""Lanes on a GPU, where a step takes nearly the same time with few lanes."""
GPU_STEPS_PER_EPOCH = 64
"""Fewest steps per epoch for which a GPU gets more than `LANES` lanes: each lane reads its own part of the text."""


def resolve_settings(
    config: TrainConfig, characters: int, world_size: int = 1, earlier: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Return a configuration with nothing left open.

    Args:
        config: the configuration as it was requested.
        characters: number of characters to train on.
        world_size: number of processes that share the text.
        earlier: fields of the configuration of the run to resume, whose settings are kept; None for a new run.
    """
    kept = flatten(dict(earlier or {}))
    device = torch.device(config.device)
    # Not dataclasses.replace, which would check all values again, and refuse a precision that only a resumed run needs.
    resolved = copy.copy(config)
    if config.batch_size is None:
        resolved.batch_size = kept.get("batch_size") or _lanes(config, device, characters // world_size)
    resolved.optimizer = copy.copy(config.optimizer)
    if config.optimizer.lr is None:
        resolved.optimizer.lr = kept.get("optimizer.lr")
        resolved.optimizer = resolved.optimizer.for_cell(config.model.cell)
    if config.precision == "auto":
        resolved.precision = kept.get("precision") or resolve_precision("auto", config.model, device)
    return resolved


def describe_settings(requested: TrainConfig, resolved: TrainConfig, *, resumes: bool = False) -> str:
    """Return the settings of a step as text, with a word where each comes from that was left open.

    Args:
        requested: the configuration as it was requested.
        resolved: the configuration from `resolve_settings`.
        resumes: whether the run resumes, with the settings that it has been using.
    """
    origin = "as before" if resumes else f"chosen for {torch.device(resolved.device).type}"
    values = {
        "batch_size": f"{resolved.batch_size}",
        "optimizer.lr": f"{resolved.optimizer.lr:g}",
        "precision": resolved.precision,
    }
    are_open = open_settings(requested)
    return ", ".join(f"{name} {value}{f' ({origin})' if name in are_open else ''}" for name, value in values.items())


def _lanes(config: TrainConfig, device: torch.device, characters: int) -> int:
    """Return the number of lanes that suits a device.

    Args:
        config: the configuration.
        device: the device.
        characters: number of characters that each process reads in an epoch.
    """
    if device.type != "cuda":
        return LANES
    fitting = characters // (GPU_STEPS_PER_EPOCH * config.accumulation_steps * config.seq_len)
    # A power of two: matrix products with other numbers of rows leave units idle.
    return min(max(LANES, 1 << fitting.bit_length() >> 1), GPU_LANES)
