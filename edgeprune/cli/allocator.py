"""How this process gives memory back: late, where it trains."""

from __future__ import annotations

import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next allocation; returns whether it does now.

    By default it returns every activation of a training step to the system at once, and the next
    step takes the same pages anew, zeroed one by one: about a seventh of the CPU time of a
    small network's training (benchmarks/recovery, "What memory costs"). A process that keeps them
    is as large as it was at its peak until it ends. What is set here stays in this process:
    those that measure are others. Nothing is done with another C library, nor where the user has
    chosen (`MALLOC_...`, `GLIBC_TUNABLES`, another allocator in `LD_PRELOAD`).
    """
    chosen = any(name.startswith(_SETTINGS) for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen:
        return False
    import ctypes  # needed for nothing else at the start of a command

    mallopt = ctypes.CDLL(None).mallopt  # mallopt(3): 1 is success
    most = 2**31 - 1
    return bool(mallopt(_M_MMAP_THRESHOLD, most)) and bool(mallopt(_M_TRIM_THRESHOLD, most))
