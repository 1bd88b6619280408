"""How images lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def in_channels_last(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Tensors N C H W stored as N H W C, others as they are."""
    import torch

    return tuple(
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
    )
