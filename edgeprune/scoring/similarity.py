"""Criteria that compare the channels of a group with each other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.hashing import hash_bits
from edgeprune.records import ChannelGroups, Graph
from edgeprune.scoring.core import Samples, Values, criterion, parameters_of, relative, vectors

BITS = 256


@criterion("fpgm")
def geometric_median(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Sum of the Euclidean distances to all other channels of the group, over every weight slice
    that they own (He et al. 2019, "Filter pruning via geometric median", equation 6: what lies
    nearest the geometric median can be made up for). Relative to the group's mean, since distances
    of different layers do not compare."""
    parameters = parameters_of(graph)
    return {
        group.name: relative(_distances(vectors(group, parameters)).sum(axis=1))
        for group in groups.groups
    }


@criterion("lsh")
def hashing(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Twice the angle, over π, to the nearest stronger channel of the group: 0 repeats it, 1 is
    orthogonal to all, up to 2 points the other way; the strongest channel gets 2.

    Angles are estimated from the bits that differ under random hyperplanes (Charikar 2002,
    "Similarity estimation techniques from rounding algorithms"), over every weight slice that the
    channels own. They compare across layers and are not normalised. Of channels that repeat each
    other the strongest by Euclidean norm keeps its score.
    """
    parameters = parameters_of(graph)
    return {group.name: _unlikeness(vectors(group, parameters)) for group in groups.groups}


def _distances(pieces: list[Tensor]) -> NDArray[np.float64]:
    """Euclidean distances between vectors given in pieces: (channels, channels)."""
    squares = torch.zeros(len(pieces[0]), len(pieces[0]), dtype=torch.float64)
    for piece in pieces:
        rows = piece.double().cpu()
        lengths = rows.square().sum(1)
        squares += lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T
    squares.fill_diagonal_(0.0)
    found: NDArray[np.float64] = squares.clamp_min(0).sqrt().numpy()
    return found


def _unlikeness(pieces: list[Tensor]) -> NDArray[np.float64]:
    signs = hash_bits(pieces, BITS).float() * 2 - 1
    shares = ((BITS - signs @ signs.T) / (2 * BITS)).double()
    strength = sum((piece.double().square().sum(1) for piece in pieces), torch.zeros(()))
    order = torch.argsort(strength, descending=True, stable=True)
    ranked = shares[order][:, order]
    stronger = torch.ones_like(ranked).tril(-1).bool()
    nearest = ranked.masked_fill(~stronger, 1.0).amin(1)
    found = np.empty(len(nearest))
    found[order.numpy()] = 2 * nearest.numpy()
    return found
