"""Heads that are laid beside the samples, as where attention pools its keys by a convolution."""

from __future__ import annotations

import pytest
import torch
from networks import lively, random_plan, relative_error
from torch import Tensor, nn

from edgeprune.channels import channel_groups
from edgeprune.graph import capture
from edgeprune.surgery import mask, prune


class PooledHeads(nn.Module):
    """Every head is a sample of a depthwise convolution over positions, or of a dense one."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.inside = nn.Linear(3, 16)
        self.pool = nn.Conv1d(4, 4, 3, padding=1, groups=1 if dense else 4)
        self.outside = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        x = self.inside(x).view(n, t, 4, 4).permute(0, 2, 3, 1)
        x = self.pool(x.reshape(n * 4, 4, t))
        return self.outside(x.reshape(n, 4, 4, t).permute(0, 3, 1, 2).reshape(n, t, 16))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_heads_beside_samples_go_whole(dense: bool, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(2, 6, 3)
    graph = capture(lively(PooledHeads(dense)), (x,))
    groups = channel_groups(graph)
    assert "inside.heads" in {group.name for group in groups.groups}
    plan = random_plan(groups, seed, 0.3, 0.5)
    small, zeroed = prune(graph, plan).module(), mask(graph, plan).module()
    with torch.no_grad():
        assert relative_error(small(x), zeroed(x)) < 1e-5
        assert relative_error(small(x[:1]), zeroed(x[:1])) < 1e-5
