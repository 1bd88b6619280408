"""What the planner is told: sums of concatenations, memory, multiply-accumulates, importance."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from networks import lively
from residuals import ResidualNet, Transformer
from test_planning_blocks import ByProduct
from torch import nn

from edgeprune import capture, channel_groups, prune
from edgeprune.blocks import blocks
from edgeprune.cost import kernels
from edgeprune.errors import BudgetError, PlanError
from edgeprune.footprint import macs
from edgeprune.planning import Known, planner_for, within
from edgeprune.planning.front import front
from edgeprune.planning.levels import Choices, Importance
from edgeprune.planning.limits import Blocks, Limits, Rules
from edgeprune.planning.memory import moments, peak_bytes
from edgeprune.planning.planner import Planner
from edgeprune.planning.sums import Sums
from edgeprune.planning.tabulate import tabulated
from edgeprune.records import ChannelGroups, Graph, Scores
from edgeprune.scoring import score


class Branches(nn.Module):
    """Four branches joined, and joined again with what they make: sums within sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3, n, 1) for n in (4, 3, 2, 4))
        self.grow = nn.Conv2d(13, 3, 3, padding=1)
        self.read = nn.Conv2d(16, 4, 1)
        self.last = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([branch(x) for branch in self.first], 1)
        both = torch.cat([joined, self.grow(joined).relu()], 1)
        return self.last(self.read(both).relu().mean((2, 3)))


@cache
def problem(make: type[nn.Module]) -> tuple[Graph, ChannelGroups, ByProduct]:
    torch.manual_seed(0)
    graph = capture(lively(make()), (torch.randn(1, 3, 16, 16),))
    groups = channel_groups(graph)
    return graph, groups, ByProduct(kernels(graph, groups.extents), groups.full_widths())


def drawn(groups: ChannelGroups, seed: int = 0) -> Scores:
    random = np.random.default_rng(seed)
    return Scores("drawn", {g.name: random.random(g.size) for g in groups.groups})


def test_tables_add_up_to_the_cost_model_at_any_widths() -> None:
    for make in (Branches, ResidualNet, Transformer):
        graph, groups, cost = problem(make)
        found = blocks(graph)
        free = Blocks(found, {b.name: 1.0 for b in found})
        wanted = Limits(size_bytes=1, macs=1)
        made = tabulated(Choices(groups, cost, wanted), drawn(groups), free)
        assert not made.notes
        random = np.random.default_rng(1)
        known = cost.with_blocks(found)
        for _ in range(20):
            levels = made.problem.complete(
                [int(random.integers(v.size)) for v in made.problem.variables]
            )
            widths = made.problem.widths(levels)
            taken = dict(zip(made.problem.quantities, made.problem.taken(levels), strict=True))
            assert taken["latency"] == pytest.approx(known.latency_ms(widths))
            assert taken["bytes"] == pytest.approx(known.size_bytes(widths), abs=1)
            alive = sum(free.importance[b.name] for b in found if widths[b.key])
            kept = Importance(groups, drawn(groups)).kept(widths)
            assert taken["importance"] == pytest.approx(kept + alive)


def test_concatenations_are_planned_to_the_best() -> None:
    _, groups, cost = problem(Branches)
    scores = drawn(groups)
    planner = Planner(groups, scores, cost)
    limit = 0.6 * cost.latency_ms(groups.full_widths())
    chosen = planner.within(Limits(limit))
    assert chosen.proof.gap == 0
    assert any(v.problem.sums for v, _ in planner.tables.values())
    options = [[dict(w) for w in v.widths] for v in Choices(groups, cost, Limits()).variables()]
    importance = Importance(groups, scores)
    best = max(
        importance.kept(widths)
        for parts in itertools.product(*options)
        for widths in [{k: w for part in parts for k, w in part.items()}]
        if cost.latency_ms(widths) <= limit
    )
    assert importance.kept(chosen.widths) == pytest.approx(best, rel=2e-6)


def test_sums_are_built_on_one_another() -> None:
    _, groups, cost = problem(Branches)
    variables = Choices(groups, cost, Limits()).variables()
    sums = Sums(variables, {n: i for i, v in enumerate(variables) for n, _ in v.widths[0]})
    wide = {e for k in cost.kernels for s in k.shapes for e in s if sums.is_wide(e)}
    for extent in sorted(wide, key=lambda e: len(e.terms)):
        sums.variable(extent)
    assert {len(e.terms) for e in wide} == {4, 5}
    assert len(sums.made) == 4  # two, three and four branches, and those with what grew


def test_predicted_macs_are_those_of_the_pruned_network() -> None:
    for make, norms in ((Branches, 0.0), (ResidualNet, 0.01)):  # norms of their own count
        graph, groups, cost = problem(make)
        known = Known(graph, groups, drawn(groups), blocks=Blocks(blocks(graph)))
        planner = planner_for(known, cost)
        assert planner.usage(groups.full_widths()).macs == pytest.approx(macs(graph), rel=norms)
        limit = int(0.5 * macs(graph))
        made = within(known, planner, Limits(macs=limit))
        predicted = planner.usage(made.widths()).macs
        assert predicted <= limit
        assert predicted == pytest.approx(macs(prune(graph, made)), rel=norms)


def test_a_limit_on_memory_holds() -> None:
    graph, groups, cost = problem(ResidualNet)
    live = moments(graph, groups.extents, cost.kernels, blocks(graph))
    full = peak_bytes(live, groups.full_widths())
    largest = max(
        4 * int(np.prod([e.at(groups.full_widths()) for e in dims]))
        for dims in groups.extents.values()
    )
    assert largest <= full <= 4 * largest
    planner = Planner(groups, drawn(groups), cost, moments=lambda: live)
    chosen = planner.within(Limits(memory_bytes=int(0.6 * full)))
    assert peak_bytes(live, chosen.widths) <= 0.6 * full
    assert chosen.usage.memory_bytes == peak_bytes(live, chosen.widths)
    assert 0.5 < chosen.proof.importance < 1
    with pytest.raises(BudgetError):
        planner.within(Limits(memory_bytes=100))


def test_the_fastest_plan_that_keeps_an_importance() -> None:
    _, groups, cost = problem(ResidualNet)
    planner = Planner(groups, drawn(groups), cost)
    fast = planner.within(Limits(importance=0.8))
    assert fast.proof.gap == 0
    assert 0.8 <= fast.proof.importance < 0.85
    again = planner.within(Limits(fast.usage.latency_ms * 1.0001))
    assert again.proof.importance >= fast.proof.importance - 1e-9
    slower = planner.within(Limits(fast.usage.latency_ms * 0.99))
    assert slower.proof.importance < 0.8


def test_a_corrected_model_plans_without_new_tables() -> None:
    _, groups, cost = problem(Branches)

    class Twice(ByProduct):
        def latency_ms(self, widths):  # type: ignore[no-untyped-def]
            return 2 * super().latency_ms(widths)

    slow = Twice(cost.kernels, cost.sizes)
    planner = Planner(groups, drawn(groups), cost)
    limit = 0.7 * cost.latency_ms(groups.full_widths())
    one = planner.within(Limits(limit))
    two = planner.with_cost(slow).within(Limits(2 * limit))
    assert one.widths == two.widths
    assert two.usage.latency_ms == pytest.approx(2 * one.usage.latency_ms)
    assert len(planner.tables) == 1


# --- heads ---------------------------------------------------------------------------------------


def test_heads_are_worth_the_channels_inside_of_them() -> None:
    graph, groups, _ = problem(Transformer)
    scores = score(graph, groups, "l2")
    importance = Importance(groups, scores)
    curves = importance.by_group()
    (first, *_) = [g for g in groups.groups if g.holds]
    inside = sum(float(curves[name][-1]) for name in first.holds)
    assert float(curves[first.name][-1]) == pytest.approx(inside)
    in_loss = replace(scores, criterion="taylor")
    assert float(Importance(groups, in_loss).by_group()[first.name][-1]) == pytest.approx(
        float(scores.values[first.name].sum())
    )


def test_a_channel_counts_once_for_each_layer_that_reads_it() -> None:
    _, groups, _ = problem(ResidualNet)
    scores = drawn(groups)
    curves = Importance(groups, scores).by_group()
    for group in groups.groups:
        readers = {s.parameter for s in group.slices if s.role == "in"}
        whole = float(scores.values[group.name].sum())
        assert float(curves[group.name][-1]) == pytest.approx(whole * len(readers))
    assert max(len({s.parameter for s in g.slices if s.role == "in"}) for g in groups.groups) > 2
    in_loss = Importance(groups, replace(scores, criterion="taylor"))
    assert in_loss.full() == pytest.approx(sum(float(v.sum()) for v in scores.values.values()))


def test_channels_of_heads_that_are_gone_are_not_lost_twice() -> None:
    graph, groups, _ = problem(Transformer)
    importance = Importance(groups, score(graph, groups, "l2"))
    heads = next(g for g in groups.groups if g.holds)
    name = heads.holds[0]
    full = groups.full_widths()
    thin = {**full, name: full[name] // 2}
    alone = importance.full() - importance.kept(thin)
    fewer = {**full, heads.name: 1}
    both = importance.kept(fewer) - importance.kept({**thin, heads.name: 1})
    assert both == pytest.approx(alone / heads.size)


# --- demands -------------------------------------------------------------------------------------


def planned(rules: Rules, share: float = 0.7, drops: bool = False) -> dict[str, int]:
    graph, groups, cost = problem(ResidualNet)
    found = blocks(graph)
    free = Blocks(found, dict.fromkeys((b.name for b in found), 0.01) if drops else {})
    known = Known(graph, groups, drawn(groups), blocks=free, rules=rules)
    limit = share * cost.latency_ms(groups.full_widths())
    return within(known, planner_for(known, cost), Limits(limit)).widths()


def test_demands_on_groups_and_blocks_hold() -> None:
    _, groups, _ = problem(ResidualNet)
    full = groups.full_widths()
    names = list(full)
    loose = planned(Rules())
    cut = next(n for n in names if loose[n] < full[n] and full[n] > 2)
    assert planned(Rules(keep=(cut,)))[cut] == full[cut]
    assert planned(Rules(at_least={cut: full[cut] - 1}))[cut] >= full[cut] - 1
    multiples = planned(Rules(multiple={"*": 2}))
    assert all(multiples[n] % 2 == 0 or multiples[n] == full[n] for n in names)
    mild = planned(Rules(most={"*": 0.5}))
    assert all(mild[n] >= full[n] / 2 for n in names)
    dropped = [key for key, width in planned(Rules(), drops=True).items() if width == 0]
    assert dropped
    pattern = dropped[0].removeprefix("block:")
    assert planned(Rules(keep=(pattern,)), drops=True).get(dropped[0], 1) == 1


def test_demands_on_what_is_not_there_are_refused() -> None:
    with pytest.raises(PlanError, match=r"layer9\.\*: no group or block"):
        planned(Rules(keep=("layer9.*",)))


def test_demands_that_leave_too_little_say_so() -> None:
    with pytest.raises(BudgetError, match="fewer demands on groups"):
        planned(Rules(keep=("*",)), 0.5)


# --- fronts --------------------------------------------------------------------------------------


def test_a_front_falls_and_tells_what_is_out_of_reach() -> None:
    graph, groups, cost = problem(ResidualNet)
    known = Known(graph, groups, drawn(groups))
    points = front(known, cost, (1.2, 1.5, 2.0, 1e9), Limits())
    kept = [p.plan.importance for p in points[:3] if p.plan is not None]
    assert len(kept) == 3
    assert kept == sorted(kept, reverse=True)
    assert points[3].plan is None
    assert "cannot be met" in points[3].why
    full = cost.latency_ms(groups.full_widths())
    for point in points[:3]:
        assert point.plan is not None
        assert cost.latency_ms(point.plan.widths()) <= full / point.speedup


def test_plans_repeat_to_the_letter() -> None:
    texts = set()
    for _ in range(2):
        graph, groups, cost = problem(ResidualNet)
        found = blocks(graph)
        free = Blocks(found, {b.name: 0.7 * i for i, b in enumerate(found)})
        known = Known(graph, groups, drawn(groups), blocks=free)
        limits = Limits(0.5 * cost.latency_ms(groups.full_widths()))
        texts.add(within(known, planner_for(known, cost), limits).to_json())
        problem.cache_clear()
    assert len(texts) == 1
