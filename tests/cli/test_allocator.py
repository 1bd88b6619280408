"""What a process that trains does with freed memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"

FAULTS = """
import resource, sys
import torch
from edgeprune.cli.allocator import keep_freed_memory

kept = keep_freed_memory()


def work():
    for _ in range(20):
        torch.zeros(4_000_000) + 1  # 16 MB, twice


work()  # until the heap is as large as this needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**more: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and how many pages 20 rounds of the same work took anew."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**plain, **more}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not GLIBC, reason="another C library than glibc")
def test_freed_pages_are_used_again() -> None:
    kept, count = faults()
    assert kept
    assert count < 4_000  # anew they would be 20 x 2 x 16 MB / 4 kB = 160 thousand


def test_what_the_user_chose_stays() -> None:
    kept, _ = faults(MALLOC_TRIM_THRESHOLD_="1000000")
    assert not kept
