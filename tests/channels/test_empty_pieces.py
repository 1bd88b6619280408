"""Tensors of which nothing is left, and tables of numbers: neither holds channels."""

from __future__ import annotations

import torch
from networks import lively, random_plan, relative_error
from torch import Tensor, nn

from edgeprune.channels import channel_groups
from edgeprune.graph import capture
from edgeprune.surgery import mask, prune


class EmptyPiece(nn.Module):
    """Numbers the regions of a shifted window, one of which is empty where the shift is none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        regions = x.new_zeros((4, 4))
        regions[-4:0, :2] = 1
        regions[2:, :2] = 2
        x = self.stem(x)
        return self.head(regions.softmax(-1) @ x).mean(1)


class Shortened(nn.Module):
    """Reads a part of a table of positions, as windows smaller than they were made for do."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 8)
        self.bias = nn.Parameter(torch.randn(7, 8))
        self.register_buffer("table", torch.arange(49).view(7, 7) % 7)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        index = self.table[:2, :2].flatten()
        return self.head(self.stem(x) + self.bias[index])


def _halved_exactly(model: nn.Module, x: Tensor) -> list[str]:
    graph = capture(lively(model), (x,))
    groups = channel_groups(graph)
    plan = random_plan(groups, 0, 0.3, 0.5)
    small, zeroed = prune(graph, plan).module(), mask(graph, plan).module()
    with torch.no_grad():
        assert relative_error(small(x), zeroed(x)) < 1e-5
    return [group.name for group in groups.groups]


def test_a_piece_of_no_length_holds_no_channels() -> None:
    assert _halved_exactly(EmptyPiece(), torch.randn(2, 4, 3)) == ["stem"]


def test_numbers_that_address_are_no_channels() -> None:
    assert _halved_exactly(Shortened(), torch.randn(2, 4, 3)) == ["stem"]
