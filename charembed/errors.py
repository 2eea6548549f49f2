"""What can go wrong in a way the user can put right: one exception type, and the import of optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType


class CharEmbedError(ValueError):
    """Bad input, configuration or file. The message names the value, the cause and the remedy."""


class MissingExtraError(ImportError):
    """An optional package is not installed. The message holds the `pip install` line that installs it."""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """
    Raises:
        CharEmbedError: the value of an option is none of those there are.
    """
    if value not in allowed:
        raise CharEmbedError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_whole(name: str, value: object, least: int = 1) -> int:
    """
    Raises:
        CharEmbedError: the value of an option is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CharEmbedError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module to import.
        extra: the extra of charembed that installs it.
        purpose: what needs it, the subject of the error message.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name != package:  # the package is there, something it needs is not: show that as it is
            raise
        raise MissingExtraError(f"{purpose} needs {package}: pip install 'charembed[{extra}]'") from error
