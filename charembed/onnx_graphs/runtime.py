"""Import ONNX Runtime without its telemetry."""

from __future__ import annotations

import os
from types import ModuleType

from charembed.errors import import_extra


def import_onnxruntime(purpose: str) -> ModuleType:
    """Import ONNX Runtime and the package `onnx`, which makes the graphs.

    Args:
        purpose: what needs them, for the error message.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    # When it is imported, onnxruntime looks up a telemetry host and writes a device id into the user's cache. Only this
    # variable prevents both, and only before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import_extra("onnx", extra="onnx", purpose=purpose)
    return import_extra("onnxruntime", extra="onnx", purpose=purpose)
