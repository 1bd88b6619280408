from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from edgeprune import capture, channel_groups, score
from edgeprune.data import Data


class Copies(nn.Module):
    """Of the eight hidden channels, 5 is twice channel 1, and 6 and 7 are sums of others."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.one = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.two = nn.Linear(8 * 16, 4) if flat else nn.Conv2d(8, 4, 3)
        with torch.no_grad():
            w = self.one.weight
            w[5], w[6], w[7] = 2 * w[1], w[0] + w[2], w[2] - w[3]

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(x.flatten(1)) if self.flat else self.two(x).mean((2, 3))


def data(channels: int = 12) -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, channels, 4, 4, generator=generator)
    y = torch.randint(4, (256,), generator=generator)
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    return Data("noise", loader, loader, loader, None, 4, (channels, 4, 4), loss=F.cross_entropy)


@pytest.mark.parametrize("flat", [False, True])
def test_channels_that_others_stand_in_for_are_worth_nothing(flat: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = capture(Copies(flat).eval(), (torch.zeros(1, 12, 4, 4),))
    before = {k: v.clone() for k, v in graph.program.state_dict().items()}
    groups = channel_groups(graph)
    values = score(graph, groups, "refit", data()).values["one"]
    order = np.argsort(values, kind="stable")
    assert values[order[2]] < 0.02 * values[order[3]], "three of eight are combinations"
    assert {1, 5} & set(order[:3].tolist()), "one of the two that are the same"
    assert (values[order[3:]] > 0).all()
    assert all(torch.equal(v, before[k]) for k, v in graph.program.state_dict().items())
    assert all(p.grad is None for p in graph.program.parameters())


def test_what_no_plain_layer_reads_gets_the_mean() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(6, 5, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    ).eval()  # fmt: skip
    graph = capture(net, (torch.zeros(1, 3, 4, 4),))
    groups = channel_groups(graph)
    values = score(graph, groups, "refit", data(3)).values
    assert all(np.isfinite(v).all() and (v >= 0).all() for v in values.values())
    assert set(values) == {g.name for g in groups.groups}
