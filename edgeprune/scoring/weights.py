"""Criteria that read the weights of one channel at a time."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from edgeprune.errors import PlanError
from edgeprune.records import ChannelGroup, ChannelGroups, Graph
from edgeprune.scoring.core import (
    Samples,
    Values,
    criterion,
    owned,
    parameters_of,
    relative,
    weight_slices,
)

aten = torch.ops.aten
_SCALE_ARGUMENT = {aten.batch_norm.default: 1}


@criterion("l1")
def l1(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Sum of absolute weights over every slice a channel owns (Li et al. 2017, "Pruning filters
    for efficient ConvNets"), relative to the group's mean, since magnitudes of different layers do
    not compare."""
    return _magnitude(graph, groups, 1)


@criterion("l2")
def l2(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Euclidean norm over every slice a channel owns (Li et al. 2017; Fang et al. 2023, "DepGraph",
    for the sum over tied slices), relative to the group's mean."""
    return _magnitude(graph, groups, 2)


@criterion("bn")
def batch_norm_scale(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Mean |scale| of every batch norm that a channel passes (Liu et al. 2017, "Learning efficient
    convolutional networks through network slimming").

    Scales compare across layers and are not normalised. A group that no batch norm scales gets its
    l2 score, with the network's mean |scale| as its mean. Raises PlanError where there is no batch
    norm at all.
    """
    parameters = parameters_of(graph)
    scales = {
        str(node.args[place].target)
        for node in graph.program.graph.nodes
        if (place := _SCALE_ARGUMENT.get(node.target)) is not None
        and isinstance(node.args[place], torch.fx.Node)
    }
    if not scales:
        raise PlanError(
            "criterion 'bn' reads the scales of batch norms, and this network has none: use l2"
        )
    absolute = {name: parameters[name].detach().abs() for name in scales}
    found: Values = {}
    for group in groups.groups:
        parts = [part for part in group.slices if part.parameter in scales]
        count = sum(part.positions.shape[1] for part in parts)
        if count:
            found[group.name] = owned(absolute, parts, group.size) / count
    typical = float(torch.cat(list(absolute.values())).mean())
    magnitude = _magnitude(graph, groups, 2)
    return {
        group.name: found.get(group.name, typical * magnitude[group.name])
        for group in groups.groups
    }


@criterion("random")
def random(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Uniform noise, for comparison (Mittal et al. 2018, "Recovering from random pruning"); seeded
    by the group's name, so that runs repeat."""
    return {
        group.name: np.random.default_rng(zlib.crc32(group.name.encode())).random(group.size)
        for group in groups.groups
    }


def _magnitude(graph: Graph, groups: ChannelGroups, power: int) -> Values:
    parameters = parameters_of(graph)
    with torch.no_grad():
        powers = {name: p.detach().abs().double() ** power for name, p in parameters.items()}

    def norm(group: ChannelGroup) -> Values:
        total = owned(powers, weight_slices(group, parameters), group.size)
        return {group.name: relative(np.maximum(total, 0.0) ** (1 / power))}

    found: Values = {}
    for group in groups.groups:
        found |= norm(group)
    return found
