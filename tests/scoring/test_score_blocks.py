"""The importance of blocks, against differences of the loss and magnitudes by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from networks import lively
from residuals import Nested, ResidualNet, Transformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgeprune import capture
from edgeprune.blocks import blocks
from edgeprune.dropping import scale_branches
from edgeprune.records import Block, Graph
from edgeprune.scoring import score_blocks

GATED = ("body.0", "body.2", "last.1")


@dataclass
class Batches:
    train_plain: list[tuple[Tensor, Tensor]]

    @staticmethod
    def loss(output: Any, target: Tensor) -> Tensor:
        return cross_entropy(output, target)


def batches(count: int) -> Batches:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(32 * count, 3, 16, 16, generator=draw)
    return Batches([(inputs, torch.randint(0, 5, (32 * count,), generator=draw))])


def loss_with(graph: Graph, block: Block, factor: float, batch: tuple[Tensor, Tensor]) -> float:
    module = copy.deepcopy(graph.program).double()
    scale_branches(module, [(block, factor)])
    with torch.no_grad():
        return float(cross_entropy(module(batch[0].double()), batch[1]))


def slopes_along(
    graph: Graph, block: Block, pieces: list[tuple[Tensor, Tensor]], step: float = 1e-4
) -> list[float]:
    """How fast the loss of every piece changes with a gate on the block."""
    return [
        (loss_with(graph, block, 1 + step, p) - loss_with(graph, block, 1 - step, p)) / step / 2
        for p in pieces
    ]


@pytest.mark.parametrize("make", [ResidualNet, Transformer, Nested])
def test_the_score_is_the_slope_of_the_loss_along_a_gate(make: type) -> None:
    torch.manual_seed(0)
    graph = capture(lively(make()), (torch.randn(1, 3, 16, 16),))
    data = batches(2)
    got = score_blocks(graph, blocks(graph), data)
    inputs, targets = data.train_plain[0]
    pieces = list(zip(inputs.split(32), targets.split(32), strict=True))
    for block in blocks(graph):
        slopes = slopes_along(graph, block, pieces)
        expected = sum(map(abs, slopes)) / len(slopes)
        assert got[block.name] == pytest.approx(expected, rel=2e-3, abs=1e-6)


class Elsewhere(nn.Module):
    """Streams with the batch in the middle, and merged with positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.late, self.merged = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).permute(2, 0, 1)  # (positions, batch, channels)
        x = x + torch.tanh(self.late(x))
        x = x.transpose(0, 1).reshape(-1, 8)
        x = x + torch.tanh(self.merged(x))
        return self.head(x.reshape(-1, 16, 8).mean(1))


@pytest.mark.parametrize("make", [ResidualNet, Transformer, Nested, Elsewhere])
def test_to_second_order_it_is_the_mean_square_of_every_samples_slope(make: type) -> None:
    torch.manual_seed(0)
    graph = capture(lively(make()), (torch.randn(1, 3, 16, 16),))
    data = batches(1)
    got = score_blocks(graph, blocks(graph), data, "fisher")
    inputs, targets = data.train_plain[0]
    pieces = list(zip(inputs.split(1), targets.split(1), strict=True))
    for block in blocks(graph):
        slopes = slopes_along(graph, block, pieces)
        expected = sum(slope**2 for slope in slopes) / len(slopes) / 2
        assert got[block.name] == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_scoring_leaves_the_graph_as_it_was() -> None:
    graph = capture(lively(ResidualNet()), (torch.randn(1, 3, 16, 16),))
    code, keys = graph.program.code, list(graph.module().state_dict())
    graph.module().train()
    score_blocks(graph, blocks(graph), batches(1))
    assert graph.program.code == code
    assert list(graph.module().state_dict()) == keys
    assert graph.module().training
    assert all(p.requires_grad and p.grad is None for p in graph.module().parameters())


def test_without_data_it_is_the_last_weight_in_average_channels() -> None:
    model = lively(ResidualNet())
    graph = capture(model, (torch.randn(1, 3, 16, 16),))
    got = score_blocks(graph, blocks(graph))
    # gated blocks end in a batch norm: the gate's own weights do not count
    gain = {n: float(model.get_parameter(f"{n}.bn2.weight").detach().abs().mean()) for n in GATED}
    rows = {
        n: float(model.get_parameter(f"{n}.conv2.weight").detach().flatten(1).norm(dim=1).mean())
        for n in ("body.1", "last.0")
    }
    for kind in (gain, rows):
        mean = sum(kind.values()) / len(kind)
        for name, size in kind.items():
            channels = 8 if name.startswith("body") else 12
            assert got[name] == pytest.approx(channels * size / mean, rel=1e-5), name


def test_a_branch_that_is_scaled_to_nothing_is_worth_nothing() -> None:
    model = Transformer().eval()
    with torch.no_grad():
        model.layers[1].gamma.zero_()
    graph = capture(model, (torch.randn(1, 3, 16, 16),))
    for data in (None, batches(1)):
        got = score_blocks(graph, blocks(graph), data)
        assert got["layers.1.mlp"] == 0
        assert all(value > 0 for name, value in got.items() if name != "layers.1.mlp")


def test_no_blocks_no_scores() -> None:
    graph = capture(torch.nn.Conv2d(3, 4, 3), (torch.randn(1, 3, 16, 16),))
    assert score_blocks(graph, blocks(graph)) == {}
