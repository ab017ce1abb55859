"""How freed memory is kept: by default glibc hands the steps' large blocks back, and pays for each page again."""

from __future__ import annotations

import ctypes
import os
import sys

# From malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30  # free memory above which some goes back to the system
MAPPED_BYTES = 32 << 20  # blocks from here on are mapped one by one; the most that glibc allows


def keep_freed_memory() -> bool:
    """Whether it was done: only with glibc, and not where the environment says how (``MALLOC_TRIM_THRESHOLD_``, …)."""
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES))
