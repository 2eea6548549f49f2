"""Notice that a file has become shorter while it is mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError


def check_mapped(array: NDArray[Any]) -> None:
    """Check that the file of an array is still as long as when it was mapped.

    Reading what was cut off would end the process with a bus error, which Python cannot catch. A file that was removed
    stays readable until it is closed.

    Args:
        array: an array; nothing is checked unless it is a memory map.

    Raises:
        CharEmbedError: the file has become shorter.
    """
    if not isinstance(array, np.memmap) or array.filename is None:
        return
    path, size = Path(array.filename), array.offset + array.nbytes
    if path.exists() and path.stat().st_size < size:
        raise CharEmbedError(
            f"{path} has become shorter while it was open: {path.stat().st_size:,} of {size:,} bytes; start again, and"
            " it is written anew"
        )
