"""Plans that drop blocks: within a budget, together with widths, and by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively
from residuals import ResidualNet, Transformer

from edgeprune import capture, channel_groups, plan, prune
from edgeprune.blocks import blocks
from edgeprune.cost import kernels
from edgeprune.cost.kernels import in_blocks
from edgeprune.errors import BudgetError, PlanError
from edgeprune.footprint import layers
from edgeprune.planning.levels import cumulative
from edgeprune.planning.limits import Blocks, Limits
from edgeprune.planning.planner import Planner
from edgeprune.plans import Plan
from edgeprune.records import (
    Block,
    Budget,
    ChannelGroup,
    ChannelGroups,
    Extent,
    Graph,
    Kernel,
    KernelKey,
    Scores,
    Widths,
)
from edgeprune.scoring import score_blocks

STREAM = 8


@dataclass(frozen=True)
class ByProduct:
    """A cost model by formula: time and size go with the product of a kernel's sizes."""

    kernels: tuple[Kernel, ...]
    sizes: dict[str, int]

    def kernel_us(self, key: KernelKey) -> float:
        return float(sum(np.prod(shape) for shape in key.shapes))

    def kernel_bytes(self, key: KernelKey) -> int:
        return 4 * int(self.kernel_us(key))

    def latency_ms(self, widths: Widths) -> float:
        return sum(self.kernel_us(k.at(widths)) for k in self.kernels) / 1000

    def size_bytes(self, widths: Widths) -> int:
        return 4 * int(sum(self.kernel_us(k.at(widths)) for k in self.kernels))

    def steps(self, group: str) -> tuple[int, ...]:
        return tuple(range(1, self.sizes[group] + 1))

    def corrected(self, widths: Widths, measured_ms: float) -> ByProduct:
        return self

    def size_corrected(self, widths: Widths, measured_bytes: int) -> ByProduct:
        return self

    def with_blocks(self, blocks: tuple[Block, ...]) -> ByProduct:
        return replace(self, kernels=in_blocks(self.kernels, blocks))


def residual_problem(
    hidden: list[int], seed: int
) -> tuple[ChannelGroups, Scores, ByProduct, Blocks]:
    """A stream of fixed width with a block per hidden group: two kernels in, an addition out."""
    random = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(len(hidden))]
    made, known = [], []
    for i, name in enumerate(names):
        wide, stream = Extent(0, ((name, 1),)), Extent(STREAM)
        made.append(Kernel("product", (f"a{i}",), ((stream, wide),)))
        made.append(Kernel("transpose", (), ((Extent(1), wide),)))
        made.append(Kernel("product", (f"b{i}",), ((wide, stream),)))
        made.append(Kernel("add", (f"add{i}", f"relu{i}"), ((Extent(1), stream),)))
        known.append(Block(f"block{i}", f"add{i}", f"b{i}", (f"a{i}", f"b{i}"), ()))
    groups = tuple(
        ChannelGroup(n, s, (), np.zeros(s, np.int64)) for n, s in zip(names, hidden, strict=True)
    )
    scores = Scores("random", {g.name: random.random(g.size) for g in groups})
    importance = {
        b.name: float(random.uniform(0, size)) for b, size in zip(known, hidden, strict=True)
    }
    cost = ByProduct(tuple(made), dict(zip(names, hidden, strict=True)))
    return ChannelGroups(groups, (), (), {}, "f"), scores, cost, Blocks(tuple(known), importance)


def lost(widths: Widths, groups: ChannelGroups, scores: Scores, found: Blocks) -> float:
    """Importance given up: of dropped blocks, and of channels in those that stay."""
    total = 0.0
    for group, block in zip(groups.groups, found.known, strict=True):
        kept = cumulative(group, scores)
        gone = widths.get(block.key, 1) == 0
        total += (
            found.importance[block.name] if gone else float(kept[-1] - kept[widths[group.name]])
        )
    return total


@settings(max_examples=40, deadline=None)
@given(
    hidden=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_blocks_and_widths_together_lose_the_least(
    hidden: list[int], share: float, seed: int
) -> None:
    groups, scores, cost, found = residual_problem(hidden, seed)
    known = cost.with_blocks(found.known)
    limit = share * cost.latency_ms(groups.full_widths())
    choices = [
        [{g.name: w} for w in range(1, g.size + 1)] + [{g.name: g.size, b.key: 0}]
        for g, b in zip(groups.groups, found.known, strict=True)
    ]
    losses = [
        lost(widths, groups, scores, found)
        for parts in itertools.product(*choices)
        for widths in [{k: v for part in parts for k, v in part.items()}]
        if known.latency_ms(widths) <= limit * (1 - 1e-8)
    ]
    planner = Planner(groups, scores, cost, found)
    if not losses:
        with pytest.raises(BudgetError, match="cannot be met"):
            planner.within(Limits(limit))
        return
    chosen = planner.within(Limits(limit))
    widths = chosen.widths
    assert chosen.usage.latency_ms <= limit
    assert chosen.usage.latency_ms == known.latency_ms(widths)
    everything = sum(float(v.sum()) for v in scores.values.values()) + sum(
        found.importance.values()
    )
    assert chosen.proof.gap == 0
    assert lost(widths, groups, scores, found) <= min(losses) + 2e-6 * everything
    for group, block in zip(groups.groups, found.known, strict=True):
        if widths.get(block.key, 1) == 0:
            assert widths[group.name] == group.size  # a channel that is not there is not given up


def test_a_block_goes_where_that_is_cheapest_and_only_where_it_may() -> None:
    groups, scores, cost, found = residual_problem([4, 4, 4], 0)
    cheap = replace(found, importance={"block0": 9.0, "block1": 0.01, "block2": 9.0})
    limit = 0.7 * cost.latency_ms(groups.full_widths())
    widths = Planner(groups, scores, cost, cheap).within(Limits(limit)).widths
    assert widths["block:block1"] == 0
    assert widths["block:block0"] == widths["block:block2"] == 1
    kept = Planner(groups, scores, cost).within(Limits(limit)).widths
    assert kept.keys() == {"g0", "g1", "g2"}


def test_a_block_that_must_go_makes_room_for_the_others() -> None:
    groups, scores, cost, found = residual_problem([4, 4, 4], 0)
    must = Blocks(found.known, {}, ("block0",))
    limit = 0.75 * cost.latency_ms(groups.full_widths())
    chosen = Planner(groups, scores, cost, must).within(Limits(limit))
    assert chosen.widths == {"g0": 4, "g1": 4, "g2": 4, "block:block0": 0}
    assert chosen.usage.latency_ms <= limit


def test_a_block_that_is_too_much_comes_back_narrower() -> None:
    groups, _, cost, found = residual_problem([4, 4], 0)
    values = np.array([2.0, 0.9, 0.8, 0.7])
    scores = Scores("given", {"g0": values, "g1": 10 * values})
    one = replace(found, importance={"block0": 2.5})
    limit = 0.9 * cost.latency_ms(groups.full_widths())
    widths = Planner(groups, scores, cost, one).within(Limits(limit)).widths
    assert widths == {"g0": 3, "g1": 4, "block:block0": 1}


@pytest.mark.parametrize("make", [ResidualNet, Transformer])
def test_the_kernels_that_vanish_are_those_of_the_smaller_network(make: type) -> None:
    graph, groups, cost = problem(make)
    for block in blocks(graph):
        plan = Plan({}, {}, groups.fingerprint, dropped=(block.name,))
        small = kernels(prune(graph, plan), groups.extents)
        predicted = cost.with_blocks(blocks(graph)).kernels
        kept = [k for k in predicted if k.at({block.key: 0, **groups.full_widths()}).shapes]
        really = Counter((k.op, k.shapes) for k in small)
        said = Counter((k.op, k.shapes) for k in kept)
        # an activation that was fused into the addition stays, by itself; delegate calls merge
        assert (said - really).total() <= 1
        assert all(op in ("add", "transpose", "delegate_call") for op, _ in said - really)
        assert all(op in ("clamp", "relu", "transpose", "delegate_call") for op, _ in really - said)


def problem(make: type) -> tuple[Graph, ChannelGroups, ByProduct]:
    torch.manual_seed(0)
    graph = capture(lively(make()), (torch.randn(1, 3, 16, 16),))
    groups = channel_groups(graph)
    return graph, groups, ByProduct(kernels(graph, groups.extents), groups.full_widths())


def test_a_budget_with_blocks_gives_a_plan_that_applies() -> None:
    graph, groups, cost = problem(ResidualNet)
    importance = score_blocks(graph, blocks(graph))
    made = plan(graph, groups, None, cost, budget=Budget(speedup=1.5), droppable=importance)
    cheap = dict.fromkeys(importance, 1e-6)
    few = plan(graph, groups, None, cost, budget=Budget(speedup=1.5), droppable=cheap)
    assert few.dropped
    assert Plan.from_json(few.to_json()) == few
    for one in (made, few):
        prune(graph, one).module()(torch.randn(2, 3, 16, 16))
    gone = {b.name for b in blocks(graph)} & set(few.dropped)
    for layer in layers(graph, groups, few.widths(), None):
        inside = any(layer.name.startswith(f"{name}.") for name in gone)
        assert (layer.after == (0, 0)) == inside
        assert layer.before != (0, 0)


def test_blocks_are_dropped_by_name() -> None:
    graph, groups, cost = problem(ResidualNet)
    only = plan(graph, drop=["body.1"])
    assert only.dropped == ("body.1",)
    assert only.widths() == {**groups.full_widths(), "block:body.1": 0}
    half = plan(graph, keep=0.5, drop=["body.1", "last.0"])
    assert half.dropped == ("body.1", "last.0")
    bound = plan(graph, groups, None, cost, budget=Budget(speedup=1.2), drop=["body.1"])
    assert bound.dropped == ("body.1",)
    with pytest.raises(PlanError, match=r"body\.7: no such block to drop; did you mean body"):
        plan(graph, drop=["body.7"])


def test_a_budget_out_of_reach_says_that_blocks_could_go() -> None:
    graph, groups, cost = problem(ResidualNet)
    with pytest.raises(BudgetError, match="--drop-blocks"):
        plan(graph, groups, None, cost, budget=Budget(latency_ms=1e-9))
    droppable = score_blocks(graph, blocks(graph))
    with pytest.raises(BudgetError) as told:
        plan(graph, groups, None, cost, budget=Budget(latency_ms=1e-9), droppable=droppable)
    assert "--drop-blocks" not in str(told.value)
