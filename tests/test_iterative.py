"""Cuts after cuts: one plan at the end, of the full network, that says all that went."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import Residual, Shuffled, TextbookNet, lively
from torch import nn

from edgeprune import capture, channel_groups, prune, score
from edgeprune.iterative import Standing, cut_further, positions_left, schedule, standing
from edgeprune.planning import Known, share_of
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Graph
from edgeprune.surgery import kept_positions

NETS = [TextbookNet, Residual, Shuffled]


def begun(make: type[nn.Module]) -> Standing:
    torch.manual_seed(0)
    shape = (1, 1, 28, 28) if make is TextbookNet else (1, 3, 16, 16)
    graph = capture(lively(make()), (torch.randn(shape),))
    return standing(graph, channel_groups(graph))


def next_plan(cut: Standing, keep: float) -> Plan:
    scores = score(cut.current, cut.left, "l2")
    return share_of(Known(cut.whole, cut.left, scores, "local", cut.plan), keep)


def trained(graph: Graph, seed: int) -> Graph:
    """Weights that are no longer those of the start, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in graph.program.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return graph


def second_plan(groups: ChannelGroups, cut: Standing, composed: Plan) -> Plan:
    """What `composed` keeps, as a plan of the network that was cut once: found by the parameters'
    positions alone, in whatever groups that network has."""
    assert cut.plan is not None
    kept: dict[str, tuple[int, ...]] = {}
    for group in groups.groups:
        place = {(s.parameter, s.dim): s.positions for s in group.slices}
        twin = next(
            g for g in cut.left.groups
            if {(s.parameter, s.dim) for s in g.slices} == set(place)
            and all(set(s.positions.flatten()) == set(place[s.parameter, s.dim].flatten())
                    for s in g.slices)
        )  # fmt: skip
        first = cut.plan.kept[twin.name]
        stays = [first.index(c) for c in composed.kept[twin.name]]
        slices = {(s.parameter, s.dim): s.positions for s in twin.slices}
        key = next(iter(place))
        wanted = {frozenset(slices[key][i].tolist()) for i in stays}
        kept[group.name] = tuple(
            i for i in range(group.size) if frozenset(place[key][i].tolist()) in wanted
        )
    return Plan(kept, groups.full_widths(), groups.fingerprint)


@pytest.mark.parametrize("make", NETS)
def test_the_composed_plan_is_the_two_cuts_one_after_the_other(make: type[nn.Module]) -> None:
    start = begun(make)
    first = next_plan(start, 0.75)
    once = trained(prune(start.whole, first), 1)
    cut = cut_further(start, first, once)
    composed = next_plan(cut, 0.5)
    together = prune(cut.whole, composed)
    apart = prune(once, second_plan(channel_groups(once), cut, composed))
    one, two = together.program.state_dict(), apart.program.state_dict()
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    x = torch.randn(2, *start.current.example_inputs[0].shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(together.module()(x), apart.module()(x))
    # the shapes follow from the plan and the untouched network alone
    plain = prune(start.whole, composed).program.state_dict()
    assert {n: t.shape for n, t in plain.items()} == {n: t.shape for n, t in one.items()}
    for name, channels in composed.kept.items():
        assert set(channels) < set(first.kept[name]) < set(range(start.full[name].size))


@pytest.mark.parametrize("make", NETS)
def test_what_is_left_is_what_the_smaller_network_has(make: type[nn.Module]) -> None:
    start = begun(make)
    first = next_plan(start, 0.6)
    once = prune(start.whole, first)
    cut = cut_further(start, first, once)
    own = channel_groups(once)

    def places(groups: ChannelGroups) -> set[frozenset[tuple[str, int, frozenset[int]]]]:
        return {
            frozenset((s.parameter, s.dim, frozenset(s.positions[i].tolist())) for s in g.slices)
            for g in groups.groups
            for i in range(g.size)
        }

    assert places(cut.left) == places(own)
    assert cut.left.full_widths() == first.widths()
    for mine, whole in zip(cut.left.groups, cut.full.groups, strict=True):
        assert (mine.name, mine.parts) == (whole.name, whole.parts)


def test_trained_weights_are_written_back_and_the_start_stays() -> None:
    start = begun(Residual)
    before = {k: v.clone() for k, v in start.whole.program.state_dict().items()}
    first = next_plan(start, 0.5)
    once = trained(prune(start.whole, first), 2)
    cut = cut_further(start, first, once)
    again = prune(cut.whole, first)
    for name, value in once.program.state_dict().items():
        assert torch.equal(again.program.state_dict()[name], value), name
    assert all(torch.equal(v, before[k]) for k, v in start.whole.program.state_dict().items())


def test_three_cuts_end_at_the_share_asked_for() -> None:
    cut = begun(TextbookNet)
    total = sum(cut.full.full_widths().values())
    for share, earlier in zip(schedule(1.0, 0.25, 3), (1.0, *schedule(1.0, 0.25, 3)), strict=False):
        chosen = next_plan(cut, share / earlier)
        cut = cut_further(cut, chosen, trained(prune(cut.whole, chosen), 3))
    assert cut.plan is not None
    assert sum(cut.plan.widths().values()) == round(total / 4)
    assert cut.plan.widths() == cut.left.full_widths()
    assert cut.plan.fingerprint == cut.full.fingerprint


@pytest.mark.parametrize("rounds", [1, 2, 3, 10])
def test_a_schedule_ends_where_it_should_and_falls_ever_more_slowly(rounds: int) -> None:
    steps = schedule(40.0, 10.0, rounds)
    assert len(steps) == rounds
    assert steps[-1] == 10.0
    falls = [a - b for a, b in pairwise((40.0, *steps))]
    assert all(f > 0 for f in falls)
    assert falls == sorted(falls, reverse=True)
    for done, left in enumerate(steps, 1):  # equation 1 of the paper, in what is left
        assert left == pytest.approx(10 + 30 * (1 - done / rounds) ** 3)
    assert np.isclose(sum(falls), 30)


@pytest.mark.parametrize("make", NETS)
def test_positions_that_stay_are_those_of_the_network_before_the_cut(make: type[nn.Module]) -> None:
    cut = begun(make)
    for keep in (0.75, 0.5):
        plan = next_plan(cut, keep)
        small = prune(cut.whole, plan)
        stay = positions_left(cut, kept_positions(cut.whole, plan))
        before = dict(cut.current.program.named_parameters())
        for name, parameter in small.program.named_parameters():
            wanted = before[name]
            for dim in range(wanted.dim()):
                if (name, dim) in stay:
                    wanted = wanted.index_select(dim, torch.from_numpy(stay[name, dim]))
            assert torch.equal(parameter, wanted), name
        cut = cut_further(cut, plan, trained(small, seed=3))
