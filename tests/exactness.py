"""Removing computes what zeroing computes: the one property, for whatever model it is asked of.

Where a statistic runs over removable channels (LayerNorm, softmax over channels) the zeroed
network is run with that statistic over the kept channels only (see kept_statistics.py). All of it
in double precision, so that a real fault is far from rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kept_statistics import KeptStatistics
from networks import random_plan
from stale import stale_constants
from torch import Tensor, nn

from edgeprune import capture, channel_groups, prune
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Graph

EXACT = 1e-9


@dataclass(frozen=True)
class Checked:
    """A captured model with its groups."""

    graph: Graph
    groups: ChannelGroups

    @property
    def names(self) -> set[str]:
        return {group.name for group in self.groups.groups}

    def error(self, plan: Plan, *inputs: Tensor) -> float:
        """The largest difference between removed and zeroed, relative to the largest output."""
        with torch.no_grad():
            removed = prune(self.graph, plan).module()(*inputs)
            rows = [
                KeptStatistics(self.graph, plan).run(*(x[i : i + 1] for x in inputs))
                for i in range(inputs[0].size(0))
            ]
        found, wanted = (
            _flat(removed),
            [torch.cat(parts) for parts in zip(*map(_flat, rows), strict=True)],
        )
        return max(
            float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))
            for a, b in zip(found, wanted, strict=True)
        )


def captured(model: nn.Module, *inputs: Tensor) -> Checked:
    """The model in eval mode and double precision."""
    doubled = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    graph = capture(model.double().eval(), doubled)
    return Checked(graph, channel_groups(graph))


def check(model: nn.Module, *inputs: Tensor, seeds: range = range(6)) -> Checked:
    """Random plans of a model, each exact and none with a stale constant; returns what was
    captured."""
    checked = captured(model, *inputs)
    for seed in seeds:
        plan = random_plan(checked.groups, seed)
        found = checked.error(plan, *map(_noise, inputs))
        assert found < EXACT, f"seed {seed}: off by {found:.2g}"
    assert stale_constants(prune(checked.graph, plan), anew=False) == []
    return checked


def _noise(x: Tensor) -> Tensor:
    two = torch.cat([x, x])
    return torch.randn_like(two, dtype=torch.float64) if x.is_floating_point() else two


def _flat(output: object) -> list[Tensor]:
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
