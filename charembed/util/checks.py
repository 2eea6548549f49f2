"""Check option values."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from charembed.errors import CharEmbedError

MAX_SEED = 2**31
"""Smallest number that is too large for a seed."""
MAX_DIM = 2**16
"""Largest number of dimensions of a vector or layer. Sizes that no memory holds are refused before PyTorch is asked."""
_MAX_SHOWN = 200
"""Number of characters of a value that an error message shows."""
MAX_THREADS = 1024
"""Largest number of threads: OpenMP ends the process when it cannot start as many as it is asked for."""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of the allowed ones.

    Raises:
        CharEmbedError: the value is not allowed; the message lists the values that are.
    """
    if value not in allowed:
        raise CharEmbedError(f"{name} must be one of {', '.join(allowed)}, got {shown(value)}")


def check_integer(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return the value as an `int` if it is a whole number of at least `minimum` and at most `maximum`.

    Raises:
        CharEmbedError: the value is not a whole number, too small or too large.
    """
    try:
        # NumPy's integers become int. A bool is an int to Python, but `batch_size=True` is a mistake.
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < minimum or (maximum is not None and number > maximum):
        allowed = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise CharEmbedError(f"{name} must be a whole number {allowed}, got {shown(value)}")
    return number


def shown(value: object) -> str:
    """Return a value for an error message. Values from damaged files may have any length."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def check_seed(seed: int) -> int:
    """Return the seed if it is in range.

    Raises:
        CharEmbedError: the seed is negative, or 2³¹ or more.
    """
    if not 0 <= seed < MAX_SEED:
        raise CharEmbedError(f"seed must be from 0 to {MAX_SEED - 1}, got {seed}")
    return seed
