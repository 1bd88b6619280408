"""Several processes that work on one thing: who is who, and what they add up.

Without `torch.distributed` set up there is one process, and all of this costs nothing. Everything
here is called by all processes together, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from edgeprune.errors import EdgepruneError

Found = TypeVar("Found")

_MESSAGE = 25_000_000
"""Bytes that are sent at a time."""


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if _together() else 0


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, in place, by their sums over all processes.

    They travel many at a time: what one message costs does not depend on its size until it is
    large (Li et al. 2020, arXiv 2006.15704, section 3.2.1).
    """
    if count() == 1:
        return
    for bucket in _buckets(tensors):
        together = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(together)
        parts = together.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def added(values: Sequence[float], device: torch.device | str = "cpu") -> list[float]:
    """The sums of numbers over all processes."""
    if count() == 1:
        return list(values)
    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    found: list[float] = tensor.tolist()
    return found


def wait_for_all() -> None:
    """Go on when all processes are here."""
    if count() > 1:
        dist.barrier()


def one_for_all(compute: Callable[[], Found]) -> Found:
    """What the first process computes, for all of them.

    An EdgepruneError there is raised everywhere, so that no process waits for one that has ended.
    """
    if count() == 1:
        return compute()
    sent: list[Any] = [None]
    if is_first():
        try:
            sent = [_Told(compute(), None)]
        except EdgepruneError as error:
            sent = [_Told(None, error)]
        except BaseException as error:
            dist.broadcast_object_list([_Told(None, EdgepruneError(f"process 0: {error}"))], src=0)
            raise
    dist.broadcast_object_list(sent, src=0)
    told: _Told = sent[0]
    if told.error is not None:
        raise told.error
    found: Found = told.value
    return found


def first_before_others(compute: Callable[[], Found]) -> Found:
    """What every process computes for itself, the first one before all others: they find what it
    left on disk."""
    if count() == 1:
        return compute()
    if is_first():
        found = compute()
        dist.barrier()
        return found
    dist.barrier()
    return compute()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in their order, neighbours of one kind in messages of about `_MESSAGE` bytes."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        other = bucket and (tensor.dtype, tensor.device) != (bucket[0].dtype, bucket[0].device)
        if other or held >= _MESSAGE:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket


@dataclass(frozen=True)
class _Told:
    value: Any
    error: EdgepruneError | None


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
