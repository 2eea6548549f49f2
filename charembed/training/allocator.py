"""Keep the C library from returning freed memory to the system between training steps."""

from __future__ import annotations

import ctypes
import platform

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> None:
    """Have the C library reuse freed memory instead of returning it to the system, for the life of the process.

    A training step frees some tens of megabytes and allocates them again at once. Returned to the system and mapped
    again page by page, they cost a fifth to a quarter of the time of a step (docs/experiments.md). Does nothing unless
    the C library is GNU's.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
