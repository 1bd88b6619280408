"""Criteria in units of the loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeprune.records import ChannelGroup, ChannelGroups, Graph, ParameterSlice
from edgeprune.scoring.core import (
    Samples,
    Values,
    added_up,
    criterion,
    evaluating,
    gradients,
    parameters_of,
    per_channel,
    samples,
)
from edgeprune.scoring.taps import Place, Watching, taps, tensor_of

CHUNK = 32


@criterion("taylor")
def taylor(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """|first-order change of the loss| when the channel is removed, averaged over batches of 32.

    Removing a channel sets its activation to zero where it is consumed, so the change is the sum of
    gradient times weight over the consumers' slices (Molchanov et al. 2017, equation 7, summed over
    every consumer). Values are in units of the loss and compare across layers.
    """
    assert data is not None
    module, parameters = graph.program, parameters_of(graph)
    found = {group.name: np.zeros(group.size) for group in groups.groups}
    read = {group.name: _consumed(group, parameters) for group in groups.groups}
    used = {part.parameter for parts in read.values() for part in parts}
    wanted = {name: p for name, p in parameters.items() if name in used}
    states = {name: p.requires_grad for name, p in wanted.items()}
    device = next(iter(parameters.values())).device
    batches = 0
    try:
        for parameter in wanted.values():
            parameter.requires_grad_(True)
        with evaluating(module):
            for inputs, targets in samples(data, CHUNK):
                loss = data.loss(module(inputs.to(device)), targets.to(device))
                slopes = gradients(loss, wanted)
                products = {name: g * wanted[name].detach() for name, g in slopes.items()}
                for name, parts in read.items():
                    change = np.zeros_like(found[name])
                    for part in parts:
                        if part.parameter in products:
                            change += per_channel(products[part.parameter], part)
                    found[name] += np.abs(change)
                batches += 1
    finally:
        for name, parameter in wanted.items():
            parameter.requires_grad_(states[name])
    found, batches = added_up(found, batches)
    return {name: total / max(batches, 1) for name, total in found.items()}


@criterion("fisher")
def fisher(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """Second-order change of the loss when the channel is removed: half the mean over samples of
    the squared derivative by a gate on the channel.

    That is optimal brain damage (LeCun et al. 1990) for the gate, with the diagonal of the
    empirical Fisher information in the Hessian's place (Theis et al. 2018, "Faster gaze prediction
    with dense networks and Fisher pruning"; the squared criterion of Molchanov et al. 2019). The
    gate's derivative is the sum of activation times gradient over every layer that reads the
    channel, or that makes it where no layer with weights reads it. Values are in squared units of
    the loss and compare across layers. A group that cannot be watched gets the mean of the others.
    """
    assert data is not None
    places = {group.name: taps(graph, group) for group in groups.groups}
    found = {group.name: np.zeros(group.size) for group in groups.groups}
    device = next(graph.program.parameters()).device
    dims = {tap.place: tap.dim for some in places.values() for tap in some}
    count = 0
    with evaluating(graph.program):
        for inputs, targets in samples(data, CHUNK):
            seen: dict[Place, Tensor] = {}

            def see(place: Place, tensor: Tensor, seen: dict[Place, Tensor] = seen) -> Tensor:
                own = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach()
                seen[place] = own.requires_grad_(True)  # a node of its own for every reader
                return seen[place]

            output = Watching(graph, set(dims), see).run(inputs.to(device))
            loss = data.loss(output, targets.to(device))
            slopes = torch.autograd.grad(loss, list(seen.values()), allow_unused=True)
            changes = {
                place: _by_sample(place, dims[place], (tensor.detach(), slope), len(inputs))
                for (place, tensor), slope in zip(seen.items(), slopes, strict=True)
                if slope is not None
            }
            for name, watched in places.items():
                gates = [
                    changes[tap.place].numpy()[:, tap.positions].sum(axis=2)
                    for tap in watched
                    if tap.place in changes
                ]
                found[name] += np.square(sum(gates, np.zeros(1))).sum(axis=0) / 2
            count += len(inputs)
    found, count = added_up(found, count)
    means = {name: total / max(count, 1) for name, total in found.items() if places[name]}
    typical = float(np.concatenate([*means.values(), np.zeros(0)]).mean()) if means else 1.0
    return {g.name: means.get(g.name, np.full(g.size, typical)) for g in groups.groups}


def _by_sample(place: Place, dim: int, product: tuple[Tensor, Tensor], batch: int) -> Tensor:
    """Activation times the gradient of the sample's own loss, summed over all but samples and
    channels: (batch, channels).

    The batch is the dimension that grew from its size for a batch of one; what does not depend on
    the sample has the mean over the batch for every one.
    """
    tensor, slope = product
    change = (tensor * slope).double().cpu()
    shape = tensor_of(place).meta["shape"]
    grown = [d for d, size in enumerate(shape) if d != dim and tensor.shape[d] == batch * size]
    if not grown:
        rest = tuple(d for d in range(change.dim()) if d != dim)
        return change.sum(dim=rest).expand(batch, -1)
    at = grown[0]
    by_sample = change.reshape(*change.shape[:at], batch, -1, *change.shape[at + 1 :])
    return by_sample.movedim(at, 0).movedim(dim + 1, 1).flatten(2).sum(2) * batch


def _consumed(
    group: ChannelGroup, parameters: dict[str, torch.Tensor]
) -> tuple[ParameterSlice, ...]:
    """Where the group's channels are read; all it owns where nothing with weights reads it."""
    readers = tuple(s for s in group.slices if s.role == "in" and s.parameter in parameters)
    return readers or tuple(s for s in group.slices if s.parameter in parameters)
