"""Feature matching: a channel is compared with the one that it was."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from edgeprune import capture, channel_groups, plan, prune, score
from edgeprune.data import DataRequest, load_data
from edgeprune.plans import Plan
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.features import difference, matches, tapped
from edgeprune.recovery.training import train
from edgeprune.surgery import kept_positions, mask


class Residual(nn.Module):
    """Two resolutions, a sum in each, and a tensor after each sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(12, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.side = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = (x + self.back(self.block(x))).relu()
        x = self.down(x)
        x = (x + self.side(x)).relu()
        return self.head(x.mean((2, 3)))


def cut(module: nn.Module, shape: tuple[int, ...]) -> tuple[Graph, Graph, Plan]:
    """A network, what a plan leaves of it, and the plan."""
    full = capture(module.eval(), (torch.randn(shape),))
    groups = channel_groups(full)
    chosen = plan(full, groups, score(full, groups, "l2"), keep=0.6)
    return full, prune(full, chosen), chosen


def residual() -> tuple[Graph, Graph, Plan]:
    torch.manual_seed(0)
    return cut(Residual(), (1, 1, 8, 8))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "shufflenet_v2_x0_5"])
def test_the_tensors_are_those_of_the_masked_network(name: str) -> None:
    torch.manual_seed(0)
    full, small, chosen = cut(getattr(torchvision.models, name)(num_classes=10), (2, 3, 64, 64))
    found = matches(full, small, kept_positions(full, chosen))
    assert found
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        _, own = tapped(small.program, found)(x)
        _, twin = tapped(mask(full, chosen).program, found)(x)
    for a, b, match in zip(own, twin, found, strict=True):
        stays = slice(None) if match.stays is None else torch.from_numpy(match.stays)
        torch.testing.assert_close(a, b[:, stays], rtol=1e-4, atol=1e-4)


def test_each_resolution_is_compared_once_at_its_last_sum() -> None:
    full, small, chosen = residual()
    found = matches(full, small, kept_positions(full, chosen))
    nodes = {node.name: node for node in small.program.graph.nodes}
    assert [nodes[match.name].target for match in found] == [torch.ops.aten.add.Tensor] * 2
    assert [nodes[match.name].meta["shape"][2] for match in found] == [8, 4]


def test_nothing_is_said_of_a_cut_that_is_not_explained() -> None:
    full, small, _ = residual()
    shapes = {node.name: node.meta["shape"] for node in full.program.graph.nodes}
    nodes = {node.name: node for node in small.program.graph.nodes}
    for match in matches(full, small, {}):  # a network that someone else cut
        assert nodes[match.name].meta["shape"] == shapes[match.name]


def test_a_tapped_network_is_the_same_network() -> None:
    full, small, chosen = residual()
    found = matches(full, small, kept_positions(full, chosen))
    double = tapped(small.program, found)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(double(x)[0], small.program(x))
    own = dict(small.program.named_parameters())
    assert {name: id(p) for name, p in double.named_parameters()} == {
        name: id(p) for name, p in own.items()
    }
    before = small.program.get_buffer("first.1.running_mean").clone()
    double.train()
    double(x)
    assert not torch.equal(small.program.get_buffer("first.1.running_mean"), before)


def test_the_difference_of_shares_is_that_of_the_whole() -> None:
    full, small, chosen = residual()
    found = matches(full, small, kept_positions(full, chosen))
    x = torch.randn(6, 1, 8, 8)

    def of(part: Tensor) -> float:
        with torch.no_grad():
            own, wanted = (tapped(g.program, found)(part)[1] for g in (small, full))
            return float(difference(own, wanted, found))

    assert of(x) > 0
    assert of(x) == pytest.approx((of(x[:2]) * 2 + of(x[2:]) * 4) / 6, rel=1e-5)


def test_training_draws_the_tensors_together() -> None:
    full, small, chosen = residual()
    data = load_data(DataRequest("digits", (1, 8, 8), batch_size=64))
    found = matches(full, small, kept_positions(full, chosen))
    x = next(iter(data.validation))[0]

    def apart(weight: float) -> float:
        recipe = Recipe(epochs=2, lr=0.02, features=weight)
        made = train(small, data, recipe, teacher=full.program, matches=found).graph
        with torch.no_grad():
            own, wanted = (tapped(g.program, found)(x)[1] for g in (made, full))
            return float(difference(own, wanted, found))

    assert apart(10.0) < 0.8 * apart(0.0)
