"""The C library's allocator: memory that is freed stays with the process, for blocks that come and go."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h, see mallopt(3)."""


def keep_freed(largest: int) -> bool:
    """Let blocks of up to ``largest`` bytes be reused, while up to twice that much may lie idle.

    By itself glibc takes each block above 32 MB from the system and gives it back at once. On a CPU torch
    asks for several for each layer, and the kernel's clearing of them was a third of the time. For the whole
    process and for good.

    Returns:
        Whether it is so now; only glibc has the settings, and older ones refuse.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows has no None
        return False
    # Older versions refuse the first above 32 MB, see mallopt(3); the others alone would only do harm.
    # With one arena for all threads, those that come after this, what one has freed fits the next one's need.
    settings = ((_MMAP_THRESHOLD, largest), (_TRIM_THRESHOLD, 2 * largest), (_ARENA_MAX, 1))
    return all(mallopt(*setting) for setting in settings)
