"""Criteria in units of the loss."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from edgeprune.records import ChannelGroup, ChannelGroups, Graph, ParameterSlice
from edgeprune.scoring.core import Samples, Values, criterion, gradients, parameters_of, per_channel

SAMPLES = 512
CHUNK = 32


@criterion("taylor", needs_data=True)
def taylor(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """|first-order change of the loss| when the channel is removed, averaged over batches of 32.

    Removing a channel sets its activation to zero where it is consumed, so the change is the sum of
    gradient times weight over the consumers' slices (Molchanov et al. 2017, equation 7, summed over
    every consumer). Values are in units of the loss and compare across layers.
    """
    assert data is not None
    module, parameters = graph.program, parameters_of(graph)
    was_training = module.training
    module.eval()
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
        for inputs, targets in _chunks(data):
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
        module.train(was_training)
    return {name: total / max(batches, 1) for name, total in found.items()}


def _consumed(
    group: ChannelGroup, parameters: dict[str, torch.Tensor]
) -> tuple[ParameterSlice, ...]:
    """Where the group's channels are read; all it owns where nothing with weights reads it."""
    readers = tuple(s for s in group.slices if s.role == "in" and s.parameter in parameters)
    return readers or tuple(s for s in group.slices if s.parameter in parameters)


def _chunks(data: Samples) -> itertools.chain[tuple[torch.Tensor, torch.Tensor]]:
    """At most SAMPLES training samples in small batches, so that signs do not cancel."""

    def pieces(batch: tuple[torch.Tensor, torch.Tensor]) -> zip[tuple[torch.Tensor, torch.Tensor]]:
        inputs, targets = batch
        return zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True)

    chunks = itertools.chain.from_iterable(pieces(batch) for batch in data.train_plain)
    return itertools.chain(itertools.islice(chunks, SAMPLES // CHUNK))
