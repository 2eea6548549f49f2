"""Receives a seed; hands it on if every generator in use takes it."""

from __future__ import annotations

from charembed.errors import CharEmbedError

MAX_SEED = 2**31


def usable_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        CharEmbedError: it is negative, or 2³¹ or more.
    """
    if not 0 <= seed < MAX_SEED:
        raise CharEmbedError(f"seed must be from 0 to {MAX_SEED - 1}, got {seed}")
    return seed
