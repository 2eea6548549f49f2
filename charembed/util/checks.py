"""Check option values."""

from __future__ import annotations

from collections.abc import Sequence

from charembed.errors import CharEmbedError

MAX_SEED = 2**31
"""Smallest number that is too large for a seed."""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of the allowed ones.

    Raises:
        CharEmbedError: the value is not allowed; the message lists the values that are.
    """
    if value not in allowed:
        raise CharEmbedError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_integer(name: str, value: object, minimum: int = 1) -> int:
    """Return the value if it is a whole number of at least `minimum`.

    Raises:
        CharEmbedError: the value is not a whole number, or too small.
    """
    # A bool is an int to Python, but `batch_size=True` is a mistake.
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise CharEmbedError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return value


def check_seed(seed: int) -> int:
    """Return the seed if it is in range.

    Raises:
        CharEmbedError: the seed is negative, or 2³¹ or more.
    """
    if not 0 <= seed < MAX_SEED:
        raise CharEmbedError(f"seed must be from 0 to {MAX_SEED - 1}, got {seed}")
    return seed
