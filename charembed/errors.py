"""Define the exceptions of the package and import optional dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType


class CharEmbedError(ValueError):
    """Invalid input, configuration or file. The message names the value, the cause and the remedy."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed. The message holds the `pip install` command that installs it."""


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module to import.
        extra: the extra of charembed that installs it.
        purpose: what needs it; the subject of the error message.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        # The package is installed but one of its own dependencies is not: our extra would not help.
        if error.name != package:
            raise
        raise MissingExtraError(f"{purpose} needs {package}: pip install 'charembed[{extra}]'") from error
