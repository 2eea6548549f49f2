"""Bound the memory that embedding takes, whatever the length and number of the texts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddingLimits:
    """How much text is read ahead and computed at a time.

    The defaults suit texts of any length. Other values are for tests, which reach every code path with short texts, and
    for tuning; vectors do not depend on them.
    """

    window_texts: int = 8192
    """Maximum number of texts in a window: consecutive texts that are read ahead so that those of similar length can
    share a batch. A window holds fewer texts if their vectors fill `memory_mb`."""
    window_characters: int = 1_000_000
    """Number of characters at which a window is complete. A text with more characters is embedded in parts."""
    part_characters: int = 1_000_000
    """Approximate maximum length of one part of a long text, in characters, if it contains few words."""
    chunk_characters: int = 4096
    """Maximum number of characters in one call of the engine, summed over the readings of a batch: bounds the memory
    for hidden states."""
    column_multiple: int = 8
    """An engine call with more readings than this computes a multiple of it, because matrix products of each new shape
    take time to set up. Batches are not made smaller than this to keep threads busy."""


DEFAULT_LIMITS = EmbeddingLimits()
