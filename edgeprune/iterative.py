"""Several smaller cuts with training between them, all relative to the full network.

A later cut is scored on the network as it was cut and trained so far, but planned in the full
network's groups, shrunk to what is left: so the last plan alone says everything that went, and
groups keep their names. To be cut again, trained weights are written back into a full-size copy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from edgeprune.graph import own_tensors
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroup, ChannelGroups, Graph, ParameterSlice
from edgeprune.surgery import kept_positions

Positions = Mapping[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True)
class Standing:
    """Where the cuts stand.

    `current` is the network as it is; `whole` the full one with the current weights in the slices
    that are left; `full` its groups, `left` the same groups of `current`, under the same names;
    `plan` is what was cut so far, relative to `whole`.
    """

    current: Graph
    whole: Graph
    full: ChannelGroups
    left: ChannelGroups
    plan: Plan | None = None


def schedule(start: float, end: float, rounds: int) -> tuple[float, ...]:
    """What is left after each round, on the way from `start` to `end`: most goes early, while the
    network has much to spare (Zhu and Gupta 2017, "To prune, or not to prune", equation 1)."""
    on_the_way = (end + (start - end) * (1 - done / rounds) ** 3 for done in range(1, rounds))
    return (*on_the_way, end)


def standing(graph: Graph, groups: ChannelGroups) -> Standing:
    """Before the first cut."""
    return Standing(graph, graph, groups, groups)


def cut_further(before: Standing, plan: Plan, current: Graph) -> Standing:
    """After `plan` (relative to the full network) was cut; `current` is what it left, trained."""
    positions = kept_positions(before.whole, plan)
    whole = _written_back(before.whole, current, positions)
    left = tuple(_shrunk(group, plan, positions) for group in before.full.groups)
    return Standing(current, whole, before.full, replace(before.full, groups=left), plan)


def positions_left(before: Standing, stay: Positions) -> Positions:
    """Which positions of the parameters of `before.current` stay where `stay` are those of the full
    network (`surgery.kept_positions`), in the order in which the smaller network has them."""
    if before.plan is None:
        return stay
    held = kept_positions(before.whole, before.plan)
    found: dict[tuple[str, int], NDArray[np.int64]] = {}
    for key, wanted in stay.items():
        own = held.get(key)
        if own is not None:
            at = np.full(int(own.max()) + 1, -1, dtype=np.int64)
            at[own] = np.arange(len(own))
            wanted = at[wanted]
        found[key] = wanted
    return found


def _shrunk(group: ChannelGroup, plan: Plan, positions: Positions) -> ChannelGroup:
    """The group as the smaller network has it: fewer channels, at their new positions."""
    kept = np.array(plan.kept.get(group.name, range(group.size)), dtype=np.int64)
    slices = []
    for part in group.slices:
        own = part.positions[kept]
        stays = positions.get((part.parameter, part.dim))
        if stays is not None:
            moved = np.full(int(stays.max()) + 1, -1, dtype=np.int64)
            moved[stays] = np.arange(len(stays))
            own = moved[own]
        slices.append(ParameterSlice(part.parameter, part.dim, own, part.role))
    return replace(group, size=len(kept), slices=tuple(slices), part_of=group.part_of[kept])


def _written_back(whole: Graph, small: Graph, positions: Positions) -> Graph:
    """`whole` with the tensors of `small` at the positions where they come from."""
    module = fx.GraphModule(whole.program, copy.deepcopy(whole.program.graph))
    for node, original in zip(module.graph.nodes, whole.program.graph.nodes, strict=True):
        node.meta["shape"] = original.meta.get("shape")
    own_tensors(module, whole.program, {})
    into = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {**dict(small.program.named_parameters()), **dict(small.program.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            target, index = into[name], []
            for dim, size in enumerate(target.shape):
                stays = positions.get((name, dim))
                here = torch.arange(size) if stays is None else torch.from_numpy(stays)
                shape = [1] * target.dim()
                shape[dim] = -1
                index.append(here.to(target.device).view(shape))
            if index:
                target[tuple(index)] = tensor
            else:
                target.copy_(tensor)
    module.train(small.program.training)
    return replace(whole, program=module)
