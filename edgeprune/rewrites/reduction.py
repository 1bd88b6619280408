"""Means, sums and lengths over dimensions that XNNPACK cannot reduce, as a product with ones.

XNNPACK's delegate averages images, (N, C, H, W) over H and W, and nothing else; a fully connected
layer with one output sums along the last dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

aten = torch.ops.aten


def weighted_sum(x: Tensor, dims: Sequence[int], weight: float, keepdim: bool) -> Tensor:
    """`weight` times the sum of `x` over `dims` (sorted, not negative)."""
    kept = [d for d in range(x.dim()) if d not in dims]
    order = [*kept, *dims]
    rows = (x if order == sorted(order) else x.permute(order)).reshape(-1, _count(x, dims))
    sums: Tensor = aten.linear.default(rows, torch.full((1, rows.shape[1]), weight, dtype=x.dtype))
    if keepdim:
        return sums.reshape([1 if d in dims else s for d, s in enumerate(x.shape)])
    return sums.reshape([x.shape[d] for d in kept])


@rewrite("mean", aten.mean.dim)
def mean(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """Over an image: what the delegate takes, then a view; over other dimensions a product."""
    dims = _dims(x, dim)
    if not _takes(x, dtype):
        return NotImplemented
    if x.dim() == 4 and dims == [2, 3]:
        if keepdim:
            return NotImplemented
        return aten.mean.dim(x, dims, True).reshape(x.shape[:2])
    return weighted_sum(x, dims, 1 / _count(x, dims), keepdim)


@rewrite("sum", aten.sum.dim_IntList)
def total(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """A product with ones."""
    if not _takes(x, dtype):
        return NotImplemented
    return weighted_sum(x, _dims(x, dim), 1.0, keepdim)


@rewrite("vector norm", aten.linalg_vector_norm.default)
def vector_norm(
    x: Tensor,
    order: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """Euclidean only: the root of the sum of squares."""
    if order != 2 or not _takes(x, dtype):
        return NotImplemented
    return torch.sqrt(weighted_sum(x * x, _dims(x, dim), 1.0, keepdim))


def _takes(x: Tensor, dtype: torch.dtype | None) -> bool:
    return x.dim() > 0 and x.is_floating_point() and dtype in (None, x.dtype)


def _dims(x: Tensor, dim: Sequence[int] | int | None) -> list[int]:
    if isinstance(dim, int):
        dim = [dim]
    return sorted(d % x.dim() for d in dim) if dim else list(range(x.dim()))


def _count(x: Tensor, dims: Sequence[int]) -> int:
    count = 1
    for d in dims:
        count *= x.shape[d]
    return count
