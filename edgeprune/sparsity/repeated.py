"""The pattern that removes filters and rows that say what a stronger one says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.hashing import repeats
from edgeprune.records import Sparsity
from edgeprune.sparsity.core import Layer, pattern


@pattern("lsh")
def lsh(layers: Sequence[Layer], request: Sparsity) -> dict[str, Tensor]:
    """Filters of convolutions and rows of linear layers that locality-sensitive hashing finds to
    repeat the direction of a stronger one are set to zero (Charikar 2002 for the hash; cosine 0.95
    or more). Filters of different groups read different inputs and never repeat each other, nor
    do filters of a single weight.

    With a share, the least similar of them stay, so that at most that share of the weights goes,
    of the whole network or of each layer.
    """
    cosines = {layer.name: _repeats(layer, request.seed) for layer in layers}
    if request.scope == "layer":
        gone: dict[str, Tensor] = {}
        for layer in layers:
            gone |= _most_alike([layer], cosines, request.share)
    else:
        gone = _most_alike(layers, cosines, request.share)
    return {layer.name: _mask(layer, ~gone[layer.name]) for layer in layers}


def _filters(layer: Layer) -> Tensor:
    """(groups, filters of a group, weights of a filter)"""
    weight = layer.weight.detach().double().cpu()
    if layer.out == 0:
        return weight.flatten(1).view(layer.groups, -1, weight[0].numel())
    inside = weight.view(layer.groups, -1, *weight.shape[1:])  # transposed: (C_in, C_out/g, *)
    return inside.movedim(2, 1).flatten(2)


def _mask(layer: Layer, stays: Tensor) -> Tensor:
    """Which filters stay, as a mask of the weight's shape."""
    shape = layer.weight.shape
    rest = [1] * (len(shape) - 2)
    if layer.out == 0:
        return stays.view(-1, 1, *rest).expand(shape).clone()
    inputs = shape[0] // layer.groups
    by_group = stays.view(layer.groups, 1, -1).expand(-1, inputs, -1)
    return by_group.reshape(shape[0], shape[1], *rest).expand(shape).clone()


def _repeats(layer: Layer, seed: int) -> Tensor:
    """The cosine by which each filter repeats a stronger one, 0 where it does not."""
    filters = _filters(layer)
    if filters.shape[2] < 2:
        return torch.zeros(filters.shape[:2].numel(), dtype=torch.float64)
    return torch.cat([repeats(rows, seed) for rows in filters])


def _most_alike(
    layers: Sequence[Layer], cosines: dict[str, Tensor], share: float | None
) -> dict[str, Tensor]:
    """Which filters go: the most similar first, while at most `share` of the weights goes."""
    counts = [len(cosines[layer.name]) for layer in layers]
    each = [x.weight.numel() // n for x, n in zip(layers, counts, strict=True)]
    sizes = torch.repeat_interleave(torch.tensor(each), torch.tensor(counts))
    values = torch.cat([cosines[layer.name] for layer in layers])
    order = torch.argsort(values, descending=True, stable=True)
    order = order[values[order] > 0]
    if share is not None:
        order = order[torch.cumsum(sizes[order], 0) <= share * int(sizes.sum())]
    gone = torch.zeros(len(values), dtype=torch.bool)
    gone[order] = True
    pieces = gone.split(counts)
    return {layer.name: piece for layer, piece in zip(layers, pieces, strict=True)}
