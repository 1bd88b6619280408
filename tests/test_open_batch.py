"""Dimensions that hold the batch and heads together: no size of one sample may be written down."""

from __future__ import annotations

import pytest
import torch
from kept_statistics import KeptStatistics
from networks import lively, random_plan, relative_error
from torch import Tensor, nn

from edgeprune import capture, channel_groups, mask, prune


class BesideTheBatch(nn.Module):
    """Attention whose heads share a dimension with the batch, sliced there from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 48)
        self.proj = nn.Linear(16, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (t.transpose(1, 2).reshape(b * 4, 4, -1) for t in self.qkv(x).chunk(3, -1))
        scores = (q.transpose(1, 2) @ k)[0:, :, :].reshape(-1, n, n)
        made = (scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm(x + self.proj(made.reshape(b, 16, n).transpose(1, 2))).mean(1))


@pytest.mark.parametrize("seed", range(6))
def test_heads_beside_the_batch_go_at_every_batch_size(seed: int) -> None:
    torch.manual_seed(seed)
    graph = capture(lively(BesideTheBatch()), (torch.randn(1, 6, 12),))
    groups = channel_groups(graph)
    assert any(group.holds for group in groups.groups)
    chosen = random_plan(groups, seed, 0.2, 0.6)
    small, zeroed = prune(graph, chosen).module(), mask(graph, chosen).module()
    with torch.no_grad():
        for batch in (1, 3):
            x = torch.randn(batch, 6, 12)
            assert relative_error(small(x), zeroed(x)) < 1e-5
        x = torch.randn(1, 6, 12)
        assert relative_error(small(x), KeptStatistics(graph, chosen).run(x)) < 1e-5
