"""Removing channels computes what zeroing them computes. This one property finds the bugs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Residual, Shuffled, TextbookNet, lively, random_plan, relative_error
from torch import nn

from edgeprune import capture, channel_groups, mask, plan, prune
from edgeprune.errors import PlanError
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Graph

ZOO = [
    "resnet18",
    "mobilenet_v2",
    "densenet121",
    "shufflenet_v2_x0_5",
    "googlenet",
    "resnext50_32x4d",
    "resnet20",
]
EXACT = 1e-5
SIZE = 32


@cache
def captured(name: str) -> tuple[Graph, ChannelGroups]:
    torch.manual_seed(0)
    if name == "resnet20":
        from resnet_cifar import resnet20

        model: nn.Module = resnet20()
    else:
        options = {"init_weights": True, "aux_logits": True} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, weights=None, **options)
    graph = capture(lively(model), (torch.randn(1, 3, SIZE, SIZE),), name=name)
    return graph, channel_groups(graph)


def agreement(graph: Graph, chosen: Plan, inputs: torch.Tensor) -> float:
    with torch.no_grad():
        removed = prune(graph, chosen).module()(inputs)
        zeroed = mask(graph, chosen).module()(inputs)
    return relative_error(removed, zeroed)


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_removing_is_zeroing(name: str, seed: int) -> None:
    graph, groups = captured(name)
    chosen = random_plan(groups, seed)
    assert agreement(graph, chosen, torch.randn(2, 3, SIZE, SIZE)) < EXACT
    assert sum(chosen.widths().values()) < sum(chosen.sizes.values())


@pytest.mark.parametrize("make", [TextbookNet, Shuffled, Residual])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_removing_is_zeroing_in_small_networks(make: type[nn.Module], seed: int) -> None:
    shape = (2, 1, 28, 28) if make is TextbookNet else (2, 3, 16, 16)
    torch.manual_seed(seed)
    graph = capture(lively(make()), (torch.randn(1, *shape[1:]),))
    assert agreement(graph, random_plan(channel_groups(graph), seed), torch.randn(shape)) < EXACT


def test_everything_that_can_go_is_halved() -> None:
    graph, groups = captured("resnet18")
    half = prune(graph, plan(graph, groups, keep=0.5))
    before = dict(graph.module().named_parameters())
    for name, parameter in half.module().named_parameters():
        if "conv" in name:
            assert parameter.shape[0] * 2 == before[name].shape[0], name
    assert [p.name for p in groups.pinned] == ["fc"]


def test_the_same_function_when_nothing_is_removed() -> None:
    graph, groups = captured("shufflenet_v2_x0_5")
    everything = plan(graph, groups, keep=1.0)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(prune(graph, everything).module()(x), graph.module()(x))


def test_the_pruned_network_trains_and_is_exported_again() -> None:
    graph, groups = captured("mobilenet_v2")
    small = prune(graph, plan(graph, groups, keep=0.5))
    module = small.module().train()
    module(torch.randn(4, 3, SIZE, SIZE)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    module.eval()
    x = torch.randn(3, 3, SIZE, SIZE)
    again = capture(module, (torch.randn(1, 3, SIZE, SIZE),))
    with torch.no_grad():
        torch.testing.assert_close(again.module()(x), module(x))
    twice = prune(again, plan(again, keep=0.5))
    with torch.no_grad():
        assert twice.module()(x).shape == (3, 1000)


def test_the_graph_that_is_pruned_stays_as_it_was() -> None:
    graph, groups = captured("resnet18")
    before = {k: v.clone() for k, v in graph.module().state_dict().items()}
    code = graph.program.code
    small = prune(graph, plan(graph, groups, keep=0.3))
    mask(graph, plan(graph, groups, keep=0.3))
    with torch.no_grad():
        for parameter in small.module().parameters():
            parameter.zero_()
    assert graph.program.code == code
    assert all(torch.equal(v, before[k]) for k, v in graph.module().state_dict().items())


def test_a_plan_of_another_graph_is_refused() -> None:
    graph, _ = captured("resnet18")
    other = Plan({}, {}, "0123456789abcdef")
    with pytest.raises(PlanError, match="another graph"):
        prune(graph, other)


def test_all_problems_of_a_plan_at_once() -> None:
    graph, groups = captured("shufflenet_v2_x0_5")
    sizes = groups.full_widths()
    wrong = Plan(
        {"nowhere": (0,), "conv1.0": (5, 3), "stage2.0.branch2.0": (99,)}, sizes, groups.fingerprint
    )
    with pytest.raises(PlanError, match=r"3 problem\(s\).*nowhere.*conv1.0.*stage2.0.branch2.0"):
        prune(graph, wrong)


def test_unequal_halves_of_a_shuffle_are_refused() -> None:
    graph = capture(Shuffled().eval(), (torch.randn(1, 3, 16, 16),))
    groups = channel_groups(graph)
    name = next(n for c in groups.equal_counts for n, _ in c.parts[0])
    full = groups.full_widths()
    wrong = Plan({name: (0,)}, full, groups.fingerprint)
    with pytest.raises(PlanError, match="equal counts"):
        prune(graph, wrong)
