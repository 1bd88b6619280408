"""Several processes on one command: what `torchrun` starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

_PATIENCE = timedelta(hours=12)
"""How long processes wait for the first one: it measures while they have nothing to do."""


@contextmanager
def processes() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; yields whether this one is the first.

    Tensors on CPUs travel by gloo, those on GPUs by NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield True
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()
