"""Makes the C library return large blocks of memory to the system once they are freed.

glibc maps large blocks of their own, and unmaps them when they are freed. But each block that is
freed raises the size from which it does so, up to 32 MiB, and what it keeps at the end of each
thread's heap to twice that. A server that parses bodies of 16 MiB would keep up to 64 MiB per
thread, although nothing uses them. Fixed sizes turn this off; see mallopt(3).
"""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1 << 20
"""Size from which blocks are mapped, and of what may be kept at the end of a heap. To map a block
of 1 MiB takes about 0.1 ms, for the pages that are then touched."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> bool:
    """Sets the sizes for this process.

    Returns:
        Whether the C library can; only glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(mallopt(which, LARGE_BYTES) for which in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
