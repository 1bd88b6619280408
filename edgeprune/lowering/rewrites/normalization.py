"""Layer and group normalisation from means and products, which stay in the delegate.

The mean is subtracted before squaring (two passes), as in PyTorch's own kernels: the shorter
E[x²] − E[x]² cancels where the mean is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.lowering.rewrites.core import rewrite
from edgeprune.lowering.rewrites.reduction import weighted_sum

aten = torch.ops.aten


@rewrite("layer norm", aten.layer_norm.default)
def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    """(..., *shape), normalised over the last dimensions."""
    count = 1
    for size in shape:
        count *= size
    rows = normalized(x.reshape(-1, count), eps)
    if weight is not None:
        rows = rows * weight.reshape(count)
    if bias is not None:
        rows = rows + bias.reshape(count)
    return rows.reshape(x.shape)


@rewrite("group norm", aten.group_norm.default)
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """(N, C, ...), normalised over each of `groups` parts of C and everything behind."""
    y = normalized(x.reshape(x.shape[0] * groups, -1), eps).reshape(x.shape)
    channels = (x.shape[1], *[1] * (x.dim() - 2))
    if weight is not None:
        y = y * weight.reshape(channels)
    if bias is not None:
        y = y + bias.reshape(channels)
    return y


def normalized(rows: Tensor, eps: float) -> Tensor:
    """(R, C) → every row with mean 0 and variance 1 (the biased estimate, `eps` added)."""
    share = 1 / rows.shape[1]
    centred = rows - weighted_sum(rows, [1], share, keepdim=True)
    variance = weighted_sum(centred * centred, [1], share, keepdim=True)
    return centred * torch.rsqrt(variance + eps)
