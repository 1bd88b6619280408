"""Plans: uniform, within a budget, feasible across parts and shuffles, always the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import Residual, Shuffled, lively

from edgeprune import capture, channel_groups, plan
from edgeprune.errors import BudgetError, PlanError
from edgeprune.planning.levels import Choices, cumulative
from edgeprune.planning.limits import Limits
from edgeprune.planning.planner import Planner
from edgeprune.planning.widths import families, nearest, strongest
from edgeprune.plans import Plan
from edgeprune.records import (
    Block,
    Budget,
    ChannelGroup,
    ChannelGroups,
    Extent,
    Kernel,
    KernelKey,
    Scores,
    Widths,
)


@dataclass(frozen=True)
class Staircase:
    """A cost model by formula: time goes with c_in * ceil(c_out / 4)."""

    kernels: tuple[Kernel, ...]
    sizes: dict[str, int]
    factor: float = 1.0

    def kernel_us(self, key: KernelKey) -> float:
        (shape,) = key.shapes
        return self.factor * shape[0] * -(-shape[1] // 4)

    def kernel_bytes(self, key: KernelKey) -> int:
        return 4 * key.shapes[0][0] * key.shapes[0][1]

    def latency_ms(self, widths: Widths) -> float:
        return sum(self.kernel_us(k.at(widths)) for k in self.kernels) / 1000

    def size_bytes(self, widths: Widths) -> int:
        return sum(self.kernel_bytes(k.at(widths)) for k in self.kernels)

    def steps(self, group: str) -> tuple[int, ...]:
        size = self.sizes[group]
        return tuple(w for w in range(1, size + 1) if w % 4 == 0 or w == size)

    def corrected(self, widths: Widths, measured_ms: float) -> Staircase:
        return replace(self, factor=self.factor * measured_ms / self.latency_ms(widths))

    def size_corrected(self, widths: Widths, measured_bytes: int) -> Staircase:
        return self

    def with_blocks(self, blocks: Sequence[Block]) -> Staircase:
        return self


def chain_problem(sizes: list[int], seed: int) -> tuple[ChannelGroups, Scores, Staircase]:
    """Groups in a chain: kernel i reads group i - 1 and makes group i; ends are fixed."""
    names = [f"g{i}" for i in range(len(sizes))]
    extents = [Extent(3), *(Extent(0, ((n, 1),)) for n in names), Extent(10)]
    kernels = tuple(
        Kernel("product", (f"k{i}",), ((a, b),))
        for i, (a, b) in enumerate(itertools.pairwise(extents))
    )
    groups = tuple(
        ChannelGroup(n, s, (), np.zeros(s, dtype=np.int64))
        for n, s in zip(names, sizes, strict=True)
    )
    random = np.random.default_rng(seed)
    scores = Scores("random", {n: random.random(s) for n, s in zip(names, sizes, strict=True)})
    full = dict(zip(names, sizes, strict=True))
    return ChannelGroups(groups, (), (), {}, "f"), scores, Staircase(kernels, full)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    share=st.floats(0.2, 0.95),
    seed=st.integers(0, 1000),
)
@example(sizes=[8], share=0.5, seed=0)  # the budget is just what a plan takes
@example(sizes=[12], share=1 / 3, seed=0)
def test_a_found_plan_is_the_best(sizes: list[int], share: float, seed: int) -> None:
    groups, scores, cost = chain_problem(sizes, seed)
    limit = share * cost.latency_ms(groups.full_widths())
    limits = Limits(limit, floor=0.1)
    options = [[dict(w) for w in v.widths] for v in Choices(groups, cost, limits).variables()]
    kept = {g.name: cumulative(g, scores) for g in groups.groups}
    best = None
    for choice in itertools.product(*options):
        widths = {name: w for part in choice for name, w in part.items()}
        if cost.latency_ms(widths) <= limit * (1 - 1e-8):
            value = sum(float(kept[n][w]) for n, w in widths.items())
            best = value if best is None else max(best, value)
    planner = Planner(groups, scores, cost)
    if best is None:
        with pytest.raises(BudgetError, match="cannot be met: the smallest plan"):
            planner.within(limits)
        return
    chosen = planner.within(limits)
    assert chosen.usage.latency_ms <= limit
    assert chosen.usage.latency_ms == cost.latency_ms(chosen.widths)
    found = sum(float(kept[n][w]) for n, w in chosen.widths.items())
    assert chosen.proof.gap == 0
    assert found == pytest.approx(best, rel=2e-6)
    total = sum(float(values.sum()) for values in scores.values.values())
    assert chosen.proof.importance == pytest.approx(found / total)


def test_size_and_latency_hold_together() -> None:
    groups, scores, cost = chain_problem([12, 12, 12], 0)
    full = groups.full_widths()
    limits = Limits(0.8 * cost.latency_ms(full), int(0.4 * cost.size_bytes(full)))
    chosen = Planner(groups, scores, cost).within(limits)
    assert chosen.usage.size_bytes <= (limits.size_bytes or 0)
    assert chosen.usage.latency_ms <= (limits.latency_ms or 0)
    assert any(chosen.widths[n] < full[n] for n in full)


def test_a_budget_out_of_reach_says_what_can_be_had() -> None:
    groups, scores, cost = chain_problem([12, 12], 0)
    with pytest.raises(BudgetError, match=r"Try --budget-ms \d"):
        Planner(groups, scores, cost).within(Limits(1e-9))
    with pytest.raises(BudgetError, match=r"Try --budget-mb \d"):
        Planner(groups, scores, cost).within(Limits(size_bytes=1))


def test_the_channels_with_the_highest_scores_stay() -> None:
    group = ChannelGroup("g", 6, (), np.array([0, 0, 0, 1, 1, 1]))
    scores = Scores("x", {"g": np.array([5.0, 1.0, 3.0, 0.1, 0.3, 0.2])})
    assert strongest(group, scores, 4) == (0, 2, 4, 5)
    assert cumulative(group, scores).tolist() == pytest.approx([0, 5.3, 8.5, 9.6])


@cache
def shuffled_groups() -> ChannelGroups:
    return channel_groups(capture(lively(Shuffled()), (torch.randn(1, 3, 16, 16),)))


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 1.0))
def test_uniform_plans_are_feasible_and_near_their_share(share: float) -> None:
    groups = shuffled_groups()
    for family in families(groups):
        wanted = {g.name: share * g.size for g in family}
        widths = nearest(family, groups.equal_counts, wanted)
        for constraint in groups.equal_counts:
            names = {n for part in constraint.parts for n, _ in part}
            if names <= widths.keys():
                sums = {sum(n * widths[g] for g, n in part) for part in constraint.parts}
                assert len(sums) == 1
        for group in family:
            assert 1 <= widths[group.name] <= group.size
            assert widths[group.name] % group.parts == 0


def test_the_same_problem_gives_the_same_plan() -> None:
    graph = capture(lively(Residual()), (torch.randn(1, 3, 16, 16),))
    assert plan(graph, keep=0.5).to_json() == plan(graph, keep=0.5).to_json()


def test_plans_survive_a_file() -> None:
    graph = capture(lively(Residual()), (torch.randn(1, 3, 16, 16),))
    made = plan(graph, keep=0.4)
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "schema"),
        ('{"schema": "edgeprune-plan/9"}', "edgeprune-plan/9"),
        ('{"schema": "edgeprune-plan/1", "kept": {"a": ["x"]}, "wat": 1}', r"kept\.a\.0.*wat"),
    ],
)
def test_a_bad_plan_file_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=f"(?s){says}"):
        Plan.from_json(text)


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5])
def test_shares_must_make_sense(keep: float) -> None:
    graph = capture(lively(Residual()), (torch.randn(1, 3, 16, 16),))
    with pytest.raises(PlanError, match="keep must lie above 0"):
        plan(graph, keep=keep)


def test_a_budget_needs_a_cost_model_and_only_one_wish() -> None:
    graph = capture(lively(Residual()), (torch.randn(1, 3, 16, 16),))
    with pytest.raises(PlanError, match="cost model"):
        plan(graph, budget=Budget(latency_ms=1.0))
    with pytest.raises(PlanError, match="either keep"):
        plan(graph)
