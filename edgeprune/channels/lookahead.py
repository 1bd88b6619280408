"""What becomes of a value: whether its dimension 1 is read as channels."""

from __future__ import annotations

import torch
from torch import fx

from edgeprune.channels.core import aten

_CHANNELS_FIRST = (
    "conv", "batch_norm", "group_norm", "instance_norm", "max_pool", "avg_pool", "adaptive_",
    "upsample_", "_upsample_", "reflection_pad", "replication_pad", "pixel_shuffle", "prelu",
)  # fmt: skip
_PASSES = {
    aten.dropout.default, aten.feature_dropout.default, aten.contiguous.default,
    aten.clone.default, aten.to.dtype, aten._to_copy.default,
}  # fmt: skip


def is_read_as_channels(node: fx.Node) -> bool:
    """Whether ops that take (N, C, *) read the node's value, directly or elementwise changed."""
    seen, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop().users:
            target = user.target
            if not isinstance(target, torch._ops.OpOverload) or user in seen:
                continue
            if target._schema.name.split("::")[-1].startswith(_CHANNELS_FIRST):
                return True
            if target in _PASSES or torch.Tag.pointwise in target.tags:
                seen.add(user)
                waiting.append(user)
    return False
