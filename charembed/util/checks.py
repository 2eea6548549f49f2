"""Checks of option values."""

from __future__ import annotations

from collections.abc import Sequence

from charembed.errors import CharEmbedError

MAX_SEED = 2**31


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """
    Raises:
        CharEmbedError: the value of an option is none of those there are.
    """
    if value not in allowed:
        raise CharEmbedError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_integer(name: str, value: object, minimum: int = 1) -> int:
    """
    Raises:
        CharEmbedError: the value of an option is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise CharEmbedError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return value


def check_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        CharEmbedError: it is negative, or 2³¹ or more.
    """
    if not 0 <= seed < MAX_SEED:
        raise CharEmbedError(f"seed must be from 0 to {MAX_SEED - 1}, got {seed}")
    return seed
