"""What can go wrong in a way the user can put right: one exception type, and the import of optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType


class CharEmbedError(ValueError):
    """Bad input, configuration or file. The message names the value, the cause and the remedy."""


class MissingExtraError(ImportError):
    """An optional package is not installed. The message holds the `pip install` line that installs it."""


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
