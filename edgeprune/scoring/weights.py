"""Criteria that read weights only."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from edgeprune.records import ChannelGroups, Graph
from edgeprune.scoring.core import (
    Samples,
    Values,
    criterion,
    parameters_of,
    per_channel,
    relative,
    weight_slices,
)


@criterion("l1")
def l1(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Sum of absolute weights over every slice a channel owns (Li et al. 2017), relative to the
    group's mean, since magnitudes of different layers do not compare."""
    return _magnitude(graph, groups, 1)


@criterion("l2")
def l2(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Euclidean norm over every slice a channel owns (Li et al. 2017; Fang et al. 2023 for the
    sum over tied slices), relative to the group's mean."""
    return _magnitude(graph, groups, 2)


@criterion("random")
def random(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Uniform noise, for comparison; seeded by the group's name, so that runs repeat."""
    return {
        group.name: np.random.default_rng(zlib.crc32(group.name.encode())).random(group.size)
        for group in groups.groups
    }


def _magnitude(graph: Graph, groups: ChannelGroups, power: int) -> Values:
    parameters = parameters_of(graph)
    with torch.no_grad():
        powers = {name: p.detach().abs().double() ** power for name, p in parameters.items()}
    found: Values = {}
    for group in groups.groups:
        total = np.zeros(group.size)
        for part in weight_slices(group, parameters):
            total += per_channel(powers[part.parameter], part)
        found[group.name] = relative(total ** (1 / power))
    return found
