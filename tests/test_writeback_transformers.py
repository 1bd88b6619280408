"""Transformers written back into their own classes, structure by structure, or the line that
cannot hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from networks import lively, random_plan, relative_error
from residuals import Transformer
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from edgeprune import capture, channel_groups, prune
from edgeprune.errors import PlanError
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroup, Graph
from edgeprune.writeback import to_module


class Encoder(nn.Module):
    """torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x)).mean(1))


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 16, [1, 1], [2, 4], [2, 2], num_classes=5)


@dataclass(frozen=True)
class Case:
    """A network, the shape of one input, and which groups its class can hold smaller."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    holds: tuple[str, ...]
    line: str
    """What the error about the other groups must name; empty where there is none."""


CASES = {
    "by hand": Case(lambda: Transformer(width=16), (3, 16, 16), ("mlp", "embed", "heads"), ""),
    "torch": Case(Encoder, (7, 6), ("linear1",), r"test_writeback_transformers\.py:\d+"),
    "swin": Case(swin, (3, 32, 32), ("mlp.0",), r"swin_transformer\.py:\d+"),
}


def captured(case: Case) -> tuple[nn.Module, Graph, Plan]:
    torch.manual_seed(0)
    model = lively(case.make())
    graph = capture(model, (torch.randn(1, *case.shape),))
    return model, graph, random_plan(channel_groups(graph), 3)


def only(graph: Graph, plan: Plan, wanted: Callable[[ChannelGroup], bool]) -> Plan:
    groups = channel_groups(graph)
    kept = {name: kept for name, kept in plan.kept.items() if wanted(groups[name])}
    assert any(len(k) < groups[name].size for name, k in kept.items())
    return Plan(kept, plan.sizes, plan.fingerprint)


@pytest.mark.parametrize("name", CASES)
def test_what_the_class_can_hold(name: str) -> None:
    case = CASES[name]
    model, graph, drawn = captured(case)
    plan = only(graph, drawn, lambda group: any(part in group.name for part in case.holds))
    small = to_module(model, plan, graph)
    assert type(small) is type(model)
    x = torch.randn(3, *case.shape)
    pruned = prune(graph, plan).module()
    with torch.no_grad():
        assert relative_error(small(x), pruned(x)) < 1e-5
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in pruned.parameters())


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].line])
def test_what_it_cannot_hold_is_told_with_the_line(name: str) -> None:
    case = CASES[name]
    model, graph, drawn = captured(case)
    with pytest.raises(PlanError, match=f"cannot hold this plan: .*{case.line}"):
        to_module(model, drawn, graph)


@pytest.mark.parametrize("inside", [True, False])
def test_heads_and_what_is_inside_of_them(inside: bool) -> None:
    model, graph, _ = captured(CASES["by hand"])
    kept: dict[str, tuple[int, ...]] = {}
    for group in channel_groups(graph).groups:
        if group.holds and not inside:
            kept[group.name] = (1,)
        elif group.parts == 2 and inside:
            kept[group.name] = tuple(i for i in range(group.size) if i % 8 < 5)
    plan = Plan(kept, channel_groups(graph).full_widths(), channel_groups(graph).fingerprint)
    small = to_module(model, plan, graph)
    attention = small.layers[0].attn
    assert (attention.num_heads, attention.head_dim) == ((2, 5) if inside else (1, 8))
    assert attention.proj.in_features == attention.num_heads * attention.head_dim
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert relative_error(small(x), prune(graph, plan).module()(x)) < 1e-5
