"""One ranking of all channels, the same share of every group, and both within a budget."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Residual, Shuffled, TextbookNet, lively
from test_planning import chain_problem
from torch import nn

from edgeprune import capture, channel_groups, plan, prune
from edgeprune.errors import BudgetError, PlanError
from edgeprune.planning import Known, Limits, plan_within
from edgeprune.planning.shares import SHARINGS, one_ranking
from edgeprune.plans import Plan, check_plan
from edgeprune.records import ChannelGroup, ChannelGroups, Graph, Scores, Sparsity
from edgeprune.sparsity import zero_share


def textbook() -> tuple[Graph, ChannelGroups]:
    torch.manual_seed(0)
    graph = capture(TextbookNet(), (torch.randn(1, 1, 28, 28),))
    return graph, channel_groups(graph)


def drawn(groups: ChannelGroups, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    return Scores("drawn", {g.name: random.random(g.size) ** (i + 1) for i, g in
                            enumerate(groups.groups)})  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), keep=st.floats(0.05, 1.0))
def test_one_ranking_keeps_the_best_of_all(seed: int, keep: float) -> None:
    sizes = np.random.default_rng(seed).integers(1, 15, size=4)
    groups, _, _ = chain_problem([int(s) for s in sizes], seed)
    scores = drawn(groups, seed)
    widths = one_ranking(groups, scores, keep)
    # by force: the best of every group is safe, then the best of the rest
    every = sorted(
        ((-float(v), g.name) for g in groups.groups for v in scores.values[g.name]),
    )
    safe = {g.name: max(scores.values[g.name]) for g in groups.groups}
    total = int(sizes.sum())
    count = max(min(range(total + 1), key=lambda n: abs(n - keep * total)), len(groups.groups))
    expected = {g.name: 1 for g in groups.groups}
    rest = [(v, name) for v, name in every if -v != safe[name]]
    for _, name in rest[: count - len(groups.groups)]:
        expected[name] += 1
    assert widths == expected


def test_the_plan_keeps_the_channels_that_rank_highest() -> None:
    graph, groups = textbook()
    scores = drawn(groups, 3)
    chosen = plan(graph, groups, scores, keep=0.5, strategy="global")
    kept = {(n, c) for n, channels in chosen.kept.items() for c in channels}
    assert len(kept) == (4 + 8 + 64) // 2
    values = {(n, c): v for n, vs in scores.values.items() for c, v in enumerate(vs)}
    alone = {n for n, channels in chosen.kept.items() if len(channels) == 1}
    lowest = min(v for key, v in values.items() if key in kept and key[0] not in alone)
    assert all(v <= lowest for key, v in values.items() if key not in kept)
    assert chosen.strategy == "global"
    shares = [len(chosen.kept[g.name]) / g.size for g in groups.groups]
    assert max(shares) - min(shares) > 0.2, "not the same share everywhere"
    even = plan(graph, groups, scores, keep=0.5, strategy="local")
    assert even.strategy == "local"
    assert even == plan(graph, groups, scores, keep=0.5)
    assert {len(even.kept[g.name]) / g.size for g in groups.groups} == {0.5}


def test_a_group_without_any_score_keeps_a_channel() -> None:
    graph, groups = textbook()
    scores = drawn(groups, 0)
    poor = replace(scores, values={**scores.values, "conv2": np.full(8, -1.0)})
    chosen = plan(graph, groups, poor, keep=0.4, strategy="global")
    assert len(chosen.kept["conv2"]) == 1
    assert prune(graph, chosen).module()(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_parts_give_up_one_channel_each() -> None:
    parts = ChannelGroup("parts", 12, (), np.arange(12) % 3)
    alone = ChannelGroup("alone", 6, (), np.zeros(6, dtype=np.int64))
    groups = ChannelGroups((parts, alone), (), (), {}, "f")
    high = np.array([9, 0, 0, 8, 0, 0, 1, 1, 1, 0, 0, 0], dtype=float)  # 9, 8 in part 0 only
    scores = Scores("s", {"parts": high, "alone": np.array([2.0, 2, 2, 2.5, 0.5, 0.5])})
    # units of three channels: means (9+1+1)/3, (8+0+0)/3, (1+0+0)/3, 0
    assert one_ranking(groups, scores, 7 / 18) == {"parts": 6, "alone": 1}
    assert one_ranking(groups, scores, 10 / 18) == {"parts": 6, "alone": 4}


@pytest.mark.parametrize("strategy", ["global", "local"])
@pytest.mark.parametrize("make", [Shuffled, Residual])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_plans_are_feasible(make: type[nn.Module], keep: float, strategy: str) -> None:
    torch.manual_seed(0)
    graph = capture(lively(make()), (torch.randn(1, 3, 16, 16),))
    groups = channel_groups(graph)
    chosen = plan(graph, groups, keep=keep, strategy=strategy)  # type: ignore[arg-type]
    check_plan(chosen, groups)
    assert prune(graph, chosen).module()(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    total = sum(g.size for g in groups.groups)
    assert abs(sum(chosen.widths().values()) / total - keep) < 0.2


@pytest.mark.parametrize("strategy", ["global", "local"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_a_budget_is_met_and_used(strategy: str, share: float) -> None:
    groups, scores, cost = chain_problem([16, 24, 32], 1)
    limit = share * cost.latency_ms(groups.full_widths())
    graph, _ = textbook()
    known = Known(graph, groups, scores, strategy)  # type: ignore[arg-type]
    chosen = plan_within(known, cost, Limits(limit))
    assert chosen.strategy == strategy
    assert cost.latency_ms(chosen.widths()) <= limit
    # no larger share fits
    kept = sum(chosen.widths().values())
    for larger in np.linspace(0.1, 1, 200):
        widths = SHARINGS[strategy](groups, scores, float(larger), 0.1)
        assert sum(widths.values()) <= kept or cost.latency_ms(widths) > limit
    with pytest.raises(BudgetError, match="cannot be met: the smallest plan"):
        plan_within(known, cost, Limits(1e-6))


def test_a_local_plan_within_a_budget_has_one_share() -> None:
    groups, scores, cost = chain_problem([20, 40, 60], 0)
    graph, _ = textbook()
    limit = 0.5 * cost.latency_ms(groups.full_widths())
    widths = plan_within(Known(graph, groups, scores, "local"), cost, Limits(limit)).widths()
    shares = [widths[g.name] / g.size for g in groups.groups]
    assert max(shares) - min(shares) < 0.06


def test_strategies_that_make_no_sense_are_said() -> None:
    graph, groups = textbook()
    with pytest.raises(PlanError, match="needs a budget: choose local, global"):
        plan(graph, groups, keep=0.5, strategy="budget")
    with pytest.raises(PlanError, match="no strategy 'all'"):
        plan(graph, groups, keep=0.5, strategy="all")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="nothing left to choose"):
        plan(graph, groups, keep={"conv1": 2}, strategy="global")


# --- zeros in plans ------------------------------------------------------------------------------


def test_a_plan_with_zeros_is_replayed_from_its_file() -> None:
    graph, groups = textbook()
    request = Sparsity("l1", 0.7, "global", 3)
    chosen = replace(plan(graph, groups, keep=0.5), sparsity=request)
    again = Plan.from_json(chosen.to_json())
    assert again == chosen
    one, two = prune(graph, chosen), prune(graph, again)
    assert zero_share(one) == pytest.approx(0.7, abs=0.05)
    assert set(one.masks) == {f"{name}.weight" for name in ("conv1", "conv2", "fc1", "fc2")}
    for name, value in one.program.state_dict().items():
        assert torch.equal(value, two.program.state_dict()[name])
    assert Plan.from_json(plan(graph, groups, keep=0.5).to_json()).sparsity is None


def test_a_wrong_wish_in_a_plan_is_told_with_its_path() -> None:
    graph, groups = textbook()
    data = json.loads(replace(plan(graph, groups, keep=0.5), sparsity=Sparsity("2:4")).to_json())
    data["sparsity"]["scope"] = "half"
    data["sparsity"]["shares"] = 1
    with pytest.raises(PlanError, match=r"2 problem\(s\).*sparsity.scope.*sparsity.shares"):
        Plan.from_json(json.dumps(data))
