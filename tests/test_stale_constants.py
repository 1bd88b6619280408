"""After pruning nothing in the graph carries a stale constant; and the checker would notice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks import Residual, Shuffled, TextbookNet, lively, random_plan
from residuals import Nested, ResidualNet, Transformer
from stale import lookups, running, stale_constants
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune import capture, channel_groups, prune
from edgeprune.records import Graph


class Everything(nn.Module):
    """One of each op that carries a size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.across = nn.GroupNorm(3, 12)
        self.last = nn.LayerNorm(12)
        self.mix = nn.Linear(12, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.across(self.grouped(F.relu(self.norm(self.stem(x)))))
        a, b = x.split([6, 6], 1)
        x = torch.cat([b, a * 2], 1).flatten(2).transpose(1, 2)
        x = self.mix(self.last(x))
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        n, t, _ = x.shape
        x = x.view(n, t, 2, 8).transpose(1, 2).reshape(n, 2 * t, 8)
        x = x.reshape(n, 2, t, 8).transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (TextbookNet, (1, 28, 28)),
    (Shuffled, (3, 16, 16)),
    (Residual, (3, 16, 16)),
    (ResidualNet, (3, 16, 16)),
    (Nested, (3, 16, 16)),
    (Transformer, (3, 16, 16)),
    (Everything, (3, 8, 8)),
]


def pruned(make: Callable[[], nn.Module], shape: tuple[int, ...], seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    graph = capture(lively(make()), (torch.randn(1, *shape),))
    return prune(graph, random_plan(channel_groups(graph), seed))


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_nothing_is_stale_after_pruning(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    for seed in range(2):
        assert stale_constants(pruned(make, shape, seed)) == []


def edited(graph: Graph, op: str, argument: int, new: object) -> Graph:
    """The graph with one argument of the first such op changed."""
    program = copy.deepcopy(graph.program)
    node = next(n for n in program.graph.nodes if str(n.target) == op)
    node.update_arg(argument, new)
    program.recompile()
    return replace(graph, program=program)


class Sizes(nn.Module):
    """Sizes that may be wrong and still run."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.norm = nn.BatchNorm2d(12)
        self.head = nn.Conv2d(12, 2, 1)
        self.token = nn.Parameter(torch.randn(1, 12, 1, 1))
        self.register_buffer("rows", torch.tensor([0, 2, 4]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)) + self.token.expand(-1, 12, 6, 6)
        return self.head(torch.cat([x[:, 5:12], x[:, :5]], 1).index_select(2, self.rows))


def test_a_slice_past_the_end_is_noticed() -> None:
    graph = pruned(Sizes, (3, 8, 8))
    assert stale_constants(graph) == []
    wrong = edited(graph, "aten.slice.Tensor", 3, 99)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(wrong.module()(x), graph.module()(x))  # it still runs
    assert [f for f in stale_constants(wrong) if "ends at 99" in f]


def test_the_kept_slice_of_the_full_network_would_be_noticed() -> None:
    """What a pruner that forgets slices leaves: the numbers of the network it started from."""
    torch.manual_seed(0)
    graph = capture(lively(Sizes()), (torch.randn(1, 3, 8, 8),))
    small = prune(graph, random_plan(channel_groups(graph), 0))
    before = {n.name: n for n in graph.program.graph.nodes if str(n.target) == "aten.slice.Tensor"}
    for node in small.program.graph.nodes:
        if node.name in before:
            node.args = (node.args[0], *before[node.name].args[1:])
    small.program.recompile()
    assert len(stale_constants(small)) >= 1


def test_a_table_that_is_looked_up_past_its_end_is_noticed() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(9, 4))
            self.register_buffer("index", torch.tensor([0, 8]))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table[self.index]

    graph = capture(Looks(), (torch.randn(1, 2, 4),))
    assert stale_constants(graph) == []
    graph.program.table = nn.Parameter(torch.randn(5, 4))
    with pytest.raises(IndexError):
        graph.module()(torch.randn(1, 2, 4))
    assert "looks up 8 of 5" in lookups(graph)[0]


def test_running_statistics_of_another_size_are_noticed() -> None:
    graph = pruned(Sizes, (3, 8, 8))
    width = graph.program.norm.running_mean.numel()
    module = copy.deepcopy(graph.program)
    module.norm.running_mean = torch.zeros(width + 1)
    faults = list(running(None, torch.zeros(1, width, 2, 2), None, None, module.norm.running_mean))
    assert faults == [f"has {width + 1} statistics of {width} channels"]


def test_a_recorded_shape_that_is_wrong_is_noticed() -> None:
    graph = pruned(TextbookNet, (1, 28, 28))
    node = next(n for n in graph.program.graph.nodes if "conv2d" in str(n.target))
    node.meta["shape"] = (1, 99, *node.meta["shape"][2:])
    assert any("recorded as (1, 99" in fault for fault in stale_constants(graph))


def test_a_tensor_that_nobody_reads_is_noticed() -> None:
    graph = pruned(TextbookNet, (1, 28, 28))
    graph.program.register_buffer("left_over", torch.zeros(64))
    assert stale_constants(graph) == ["left_over (64,) is read by nothing"]
