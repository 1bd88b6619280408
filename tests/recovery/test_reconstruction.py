from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import Residual, Shuffled, lively, random_plan, relative_error
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgeprune import capture, channel_groups, prune
from edgeprune.data import Data
from edgeprune.errors import DataError
from edgeprune.plans import Plan
from edgeprune.records import Graph
from edgeprune.recovery.reconstruction import Effort, reconstruct
from edgeprune.recovery.shelf import Shelf
from edgeprune.surgery import kept_positions


def noise(*shape: int, samples: int = 96, batch: int = 24) -> Data:
    """Inputs that are noise with a spatial structure, and no labels worth having."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(samples, *shape, generator=generator)
    if len(shape) == 3:
        x = x + nn.functional.avg_pool2d(x, 5, 1, 2) * 3
    loader = DataLoader(TensorDataset(x, torch.zeros(samples).long()), batch_size=batch)
    return Data("noise", loader, loader, loader, None, classes=None, sample_shape=shape)


def plan_of(graph: Graph, kept: dict[str, list[int]]) -> Plan:
    groups = channel_groups(graph)
    sizes = {g.name: g.size for g in groups.groups}
    full = {name: tuple(range(size)) for name, size in sizes.items()}
    assert kept.keys() <= full.keys(), f"there are {list(full)}"
    chosen = {**full, **{name: tuple(channels) for name, channels in kept.items()}}
    return Plan(chosen, sizes, groups.fingerprint)


def outputs(graph: Graph, data: Data) -> Tensor:
    with torch.no_grad():
        return torch.cat([graph.program(x) for x, _ in data.train_plain])


def mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().square().mean())


NETWORKS = {
    "residual": (Residual, (3, 12, 12)),
    "shuffled": (Shuffled, (3, 8, 8)),
    "grouped": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, (3, 1), stride=2, padding=(1, 0), groups=4, bias=False),
        nn.BatchNorm2d(12), nn.ReLU6(),
        nn.Conv2d(12, 12, 3, dilation=2, padding="same", groups=12, bias=False),
        nn.BatchNorm2d(12), nn.Conv2d(12, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(10, 5)), (3, 9, 9)),
    "attention": (lambda: nn.Sequential(nn.Linear(6, 16), nn.TransformerEncoderLayer(
        16, 4, 24, batch_first=True, norm_first=True, dropout=0.1), nn.Linear(16, 3)), (5, 6)),
}  # fmt: skip


def network(name: str) -> tuple[Graph, Data]:
    make, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = lively(make())
    return capture(model, (torch.zeros(1, *shape),)), noise(*shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_where_nothing_is_removed_nothing_changes(name: str) -> None:
    graph, data = network(name)
    plan = plan_of(graph, {})
    same = prune(graph, plan)
    found = reconstruct(graph, same, kept_positions(graph, plan), data)
    assert not found.layers
    for key, value in found.graph.program.state_dict().items():
        assert torch.equal(value, graph.program.state_dict()[key])


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_gets_worse_and_the_output_comes_closer(name: str) -> None:
    graph, data = network(name)
    plan = random_plan(channel_groups(graph), seed=3, low=0.6, high=0.8)
    small = prune(graph, plan)
    state = {k: v.clone() for k, v in small.program.state_dict().items()}
    original = {k: v.clone() for k, v in graph.program.state_dict().items()}
    found = reconstruct(graph, small, kept_positions(graph, plan), data)
    assert found.layers
    assert all(layer.after <= layer.before for layer in found.layers)
    wanted = outputs(graph, data)
    cut, refitted = (mse(outputs(g, data), wanted) for g in (small, found.graph))
    assert refitted < 0.8 * cut
    assert all(torch.equal(v, state[k]) for k, v in small.program.state_dict().items())
    assert all(torch.equal(v, original[k]) for k, v in graph.program.state_dict().items())


def copied_channels(weights: list[tuple[Tensor, int]], kept: int) -> None:
    """Make the channels from `kept` on combinations of those before: `weights` are (rows, dim)."""
    mixing = torch.rand(64, kept, generator=torch.Generator().manual_seed(5)) + 0.1
    with torch.no_grad():
        for weight, dim in weights:
            rows = weight.movedim(dim, 0)
            combined = torch.tensordot(mixing[: len(rows) - kept], rows[:kept], dims=1)
            rows[kept:] = combined


class Copies(nn.Module):
    """Hidden channels 5.. of every layer are linear combinations of channels 0 to 4."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 9, 3, stride=2, bias=False)
        self.fc1 = nn.Linear(9, 12)
        self.fc2 = nn.Linear(12, 4)
        for layer in (self.one, self.two, self.fc1):
            copied_channels([(layer.weight.data, 0)], 5)
            if layer.bias is not None:
                copied_channels([(layer.bias.data, 0)], 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x)).mean((2, 3))
        return self.fc2(self.fc1(x))


def test_what_the_kept_channels_span_is_restored_exactly() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        graph = capture(Copies().eval(), (torch.zeros(1, 3, 10, 10),))
    data = noise(3, 10, 10)
    plan = plan_of(graph, {name: [0, 1, 2, 3, 4] for name in ("one", "two", "fc1")})
    small = prune(graph, plan)
    wanted = outputs(graph, data)
    assert relative_error(outputs(small, data), wanted) > 0.1
    found = reconstruct(graph, small, kept_positions(graph, plan), data)
    assert [layer.weight for layer in found.layers] == ["two.weight", "fc1.weight", "fc2.weight"]
    assert relative_error(outputs(found.graph, data), wanted) < 1e-4


def test_a_branch_makes_up_for_what_the_shortcut_lost() -> None:
    """The shortcut's layer is refitted first, the branch to the old sum minus the new shortcut."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 10, 1)
            self.branch = nn.Conv2d(10, 6, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.short = nn.Conv2d(10, 6, 1)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            return self.head((self.norm(self.branch(x)) + self.short(x)).relu().mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(2)
        graph = capture(lively(Two()), (torch.zeros(1, 3, 8, 8),))
    data = noise(3, 8, 8)
    plan = plan_of(graph, {"stem": [0, 2, 4, 6, 7]})
    small = prune(graph, plan)
    found = reconstruct(graph, small, kept_positions(graph, plan), data)
    names = [layer.weight for layer in found.layers]
    assert names.index("short.weight") < names.index("branch.weight") < names.index("head.weight")
    wanted = outputs(graph, data)
    alone = copy.deepcopy(found.graph.program)
    assert mse(outputs(found.graph, data), wanted) < 0.5 * mse(outputs(small, data), wanted)
    assert not torch.equal(alone.norm.running_mean, small.program.norm.running_mean)


def test_memory_beyond_the_limit_goes_to_disk_and_gives_the_same() -> None:
    graph, data = network("residual")
    plan = random_plan(channel_groups(graph), seed=3)
    small, positions = prune(graph, plan), kept_positions(graph, plan)
    one, other = (
        reconstruct(graph, small, positions, data, Effort(samples=64, memory_bytes=limit)).graph
        for limit in (10**9, 20_000)
    )
    for key, value in one.program.state_dict().items():
        assert torch.equal(value, other.program.state_dict()[key])


def test_a_shelf_forgets_its_files() -> None:
    with Shelf(limit_bytes=0) as shelf:
        shelf.put(0, {"a": torch.arange(3), "n": 4})
        assert torch.equal(shelf.take(0)["a"], torch.arange(3))
        assert shelf.take(0)["n"] == 4
        assert shelf._folder is not None
        folder = shelf._folder.name
        shelf.put(0, {"n": 4})
        assert not list(Path(folder).iterdir())
    assert not Path(folder).exists()


def test_zeros_that_must_stay_are_left_alone() -> None:
    graph, data = network("residual")
    plan = random_plan(channel_groups(graph), seed=3)
    small = prune(graph, plan)
    weight = small.program.head.weight
    held = replace(small, masks={"head.weight": weight.abs() > weight.abs().median()})
    found = reconstruct(graph, held, kept_positions(graph, plan), data)
    assert torch.equal(found.graph.program.head.weight, weight)
    assert "head.weight" not in [layer.weight for layer in found.layers]


def test_the_samples_may_not_be_missing() -> None:
    graph, data = network("residual")
    plan = random_plan(channel_groups(graph), seed=3)
    empty = DataLoader(TensorDataset(torch.zeros(0, 3, 12, 12), torch.zeros(0)))
    with pytest.raises(DataError, match="yielded nothing"):
        reconstruct(
            graph, prune(graph, plan), kept_positions(graph, plan), replace(data, train_plain=empty)
        )


def test_a_later_cut_is_refitted_to_the_network_before_it() -> None:
    """Positions relative to the network before the cut, as the rounds of iterative pruning."""
    graph, data = network("residual")
    first = random_plan(channel_groups(graph), seed=1, low=0.8, high=0.9)
    before = prune(graph, first)
    second = plan_of(before, {"stem": [0, 1, 2]})
    after = prune(before, second)
    found = reconstruct(before, after, kept_positions(before, second), data)
    wanted = outputs(before, data)
    assert mse(outputs(found.graph, data), wanted) < mse(outputs(after, data), wanted)
    assert np.isfinite([layer.after for layer in found.layers]).all()
