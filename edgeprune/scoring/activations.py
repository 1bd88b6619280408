"""The criterion that reads activations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeprune import ranks
from edgeprune.records import ChannelGroups, Graph
from edgeprune.scoring.core import Samples, Values, criterion, evaluating, relative, samples
from edgeprune.scoring.taps import Place, Watching, taps, tensor_of

CHUNK = 64


@criterion("activation")
def activation(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Mean |activation| of the channel over 512 training samples, averaged over every tensor
    through which a layer reads it (Polyak and Wolf 2015, "Channel-level acceleration of deep face
    representations"; Molchanov et al. 2017), relative to the group's mean, since activations of
    different layers do not compare. Channels that no layer with weights reads are watched where
    they are made; a group that cannot be watched at all scores one throughout.
    """
    assert data is not None
    places = {group.name: taps(graph, group) for group in groups.groups}
    sums: dict[Place, Tensor] = {}
    dims = {tap.place: tap.dim for found in places.values() for tap in found}
    counts = dict.fromkeys(dims, 0)

    def see(place: Place, tensor: Tensor) -> Tensor:
        dim = dims[place]
        rest = [d for d in range(tensor.dim()) if d != dim]
        total = tensor.detach().abs().double().sum(dim=rest).cpu()
        sums[place] = sums.get(place, torch.zeros(())) + total
        counts[place] += tensor.numel() // tensor.shape[dim]
        return tensor

    device = next(graph.program.parameters()).device
    watching = Watching(graph, set(dims), see)
    with evaluating(graph.program), torch.no_grad():
        for inputs, _ in samples(data, CHUNK):
            watching.run(inputs.to(device))
    _add_up(sums, counts, dims)
    found: Values = {}
    for group in groups.groups:
        # one entry for each tensor, however many layers read it
        means = {
            (tensor_of(tap.place), tap.positions.tobytes()): (
                (sums[tap.place] / counts[tap.place]).numpy()[tap.positions]
            )
            for tap in places[group.name]
            if tap.place in sums
        }
        together = np.concatenate([*means.values(), np.empty((group.size, 0))], axis=1)
        seen = together.shape[1] > 0
        found[group.name] = relative(together.mean(axis=1)) if seen else np.ones(group.size)
    return found


def _add_up(sums: dict[Place, Tensor], counts: dict[Place, int], dims: dict[Place, int]) -> None:
    """Replace sums and counts by those over the samples of all processes."""
    if ranks.count() == 1:
        return
    for place, dim in dims.items():
        width = tensor_of(place).meta["shape"][dim]
        here = sums.get(place, torch.zeros(width, dtype=torch.float64))
        ranks.add_up([here])
        sums[place] = here
        counts[place] = int(ranks.added([counts[place]])[0])
