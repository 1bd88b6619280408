"""The criterion that knows that layers will be refitted: what of the loss no refit can bring back.

A channel that the others can stand in for is worth nothing, however large it is. Channels of a
group are taken away one by one, the cheapest first, and after each the layers that read them are
refitted by least squares: optimal brain surgeon (Hassibi and Stork 1993), layer by layer and for
whole channels (Dong, Chen and Pan 2017, arXiv 1705.07565), with every output weighted by how much
the loss depends on it (the diagonal of the Fisher information of the layer's outputs).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from edgeprune import ranks
from edgeprune.forms import Form, Ports, ports
from edgeprune.graph import attribute
from edgeprune.randomness import mix
from edgeprune.records import ChannelGroup, ChannelGroups, Graph
from edgeprune.scoring.core import SAMPLES, Samples, Values, criterion, evaluating, samples
from edgeprune.scoring.taps import Place, Watching

CHUNK = 32
_ROWS = 32
"""Rows per input of a layer that are enough to know its inputs' second moments."""
_RIDGE = 1e-3
"""Of the mean square of an input: what keeps the inverse of the moments in bounds."""


@dataclass
class _Reader:
    """A layer that reads channels: second moments of its inputs (sums over `rows`), and the squared
    slopes of the loss by each output, summed over positions and samples."""

    node: fx.Node
    ports: Ports
    form: Form
    moments: Tensor
    slopes: Tensor
    rows: int = 0


@criterion("refit")
def refit(graph: Graph, groups: ChannelGroups, data: Samples | None) -> Values:
    """The increase of the loss, to second order, when the channel goes after all cheaper ones of
    its group, and every layer that reads the group is refitted to what it put out (Hassibi et al.
    1993, "Optimal brain surgeon and general network pruning", for whole channels).

    Values are in units of the loss and compare across layers; within a group they add up along the
    order of removal. A group that no plain layer reads (only depthwise or grouped convolutions)
    gets the mean of the others.
    """
    assert data is not None
    readers, count = _readers(graph, data)
    found: Values = {}
    for group in groups.groups:
        read = _parts(group, readers)
        if read:
            found[group.name] = _eliminated(graph, group, read, count)
    typical = float(np.concatenate([*found.values(), np.zeros(0)]).mean()) if found else 1.0
    return {g.name: found.get(g.name, np.full(g.size, typical)) for g in groups.groups}


def _readers(graph: Graph, data: Samples) -> tuple[dict[str, _Reader], int]:
    """Every layer with one group and a weight of its own, by the weight's name, with what is known
    of it after all samples, and how many these were."""
    uses: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.program.graph.nodes:
        own = ports(node)
        if own is not None:
            uses[str(node.args[own.weight].target)].append(node)
    nodes = {users[0]: name for name, users in uses.items() if len(users) == 1}
    device = next(graph.program.parameters()).device
    readers: dict[str, _Reader] = {}
    count = 0
    with evaluating(graph.program):
        for number, (inputs, targets) in enumerate(samples(data, CHUNK)):
            seen: dict[Place, Tensor] = {}

            def see(place: Place, tensor: Tensor, seen: dict[Place, Tensor] = seen) -> Tensor:
                if place[1] == "in":
                    seen[place] = tensor.detach()
                    return tensor
                own = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach()
                seen[place] = own.requires_grad_(True)
                return seen[place]

            watched: set[Place] = {(node, side) for node in nodes for side in ("in", "out")}
            output = Watching(graph, watched, see).run(inputs.to(device))
            loss = data.loss(output, targets.to(device))
            made = [node for node in nodes if (node, "out") in seen]
            slopes = torch.autograd.grad(loss, [seen[n, "out"] for n in made], allow_unused=True)
            with torch.no_grad():
                for node, slope in zip(made, slopes, strict=True):
                    if slope is not None:
                        x, draw = seen[node, "in"], (number, len(inputs))
                        _note(graph, readers, (nodes[node], node), (x, slope), draw)
            count += len(inputs)
    for reader in readers.values() if ranks.count() > 1 else ():
        ranks.add_up([reader.moments, reader.slopes])
        reader.rows = int(ranks.added([reader.rows])[0])
    return readers, int(ranks.added([count])[0])


def _note(
    graph: Graph,
    readers: dict[str, _Reader],
    layer: tuple[str, fx.Node],
    seen: tuple[Tensor, Tensor],
    draw: tuple[int, int],
) -> None:
    """Add a piece's input and slopes to what is known of a layer."""
    (name, node), (x, slope), (number, batch) = layer, seen, draw
    own = ports(node)
    assert own is not None
    args = tuple(
        attribute(graph.program, str(a.target)) if isinstance(a, fx.Node) and a.op == "get_attr"
        else a
        for a in node.args
    )  # fmt: skip
    form = own.form(args, x, slope)
    if form.groups != 1:
        return
    if name not in readers:
        moments = torch.zeros(form.inputs, form.inputs, dtype=torch.float64, device=x.device)
        outputs = torch.zeros(form.outputs, dtype=torch.float64, device=x.device)
        readers[name] = _Reader(node, own, form, moments, outputs)
    reader = readers[name]
    most = min(form.positions, math.ceil(_ROWS * form.inputs / SAMPLES))
    generator = torch.Generator().manual_seed(mix(number))
    chosen = torch.randperm(form.positions, generator=generator)[:most].to(x.device)
    rows = form.rows(x, slope, chosen)[0][0].double()
    reader.moments += rows.T @ rows
    reader.rows += len(rows)
    dims = [d for d in range(slope.dim()) if d != own.channel_dim % slope.dim()]
    reader.slopes += (slope.double() * batch).square().sum(dims)


def _parts(group: ChannelGroup, readers: dict[str, _Reader]) -> list[tuple[_Reader, Tensor]]:
    """Who reads a group, and at which of its inputs: (channels, inputs of one)."""
    found = []
    for part in group.slices:
        reader = readers.get(part.parameter)
        if reader is None or part.role != "in" or part.dim == reader.ports.output_dim:
            continue
        weight = _shape_of(reader.node, reader.ports.weight)
        each = reader.form.inputs // weight[part.dim]  # kernel positions of one input
        at = torch.from_numpy(part.positions)[:, :, None] * each + torch.arange(each)
        found.append((reader, at.flatten(1)))
    return found


def _shape_of(node: fx.Node, argument: int) -> tuple[int, ...]:
    """The shape of a node's argument."""
    source = node.args[argument]
    assert isinstance(source, fx.Node)
    shape: tuple[int, ...] = source.meta["shape"]
    return shape


class _Surgeon:
    """One reader while channels are taken from it: the inverse of its inputs' moments, and its
    weights as they are refitted, scaled so that squares are loss."""

    def __init__(self, graph: Graph, reader: _Reader, at: Tensor, count: int) -> None:
        moments = reader.moments / max(reader.rows, 1)
        scale = moments.diagonal().mean().clamp_min(1e-30)
        ridge = _RIDGE * scale * torch.eye(len(moments), dtype=torch.float64, device=scale.device)
        self.inverse = torch.linalg.inv(moments + ridge)
        name = str(reader.node.args[reader.ports.weight].target)  # type: ignore[union-attr]
        matrix = reader.form.matrix(attribute(graph.program, name).detach())[0].double()
        self.weight = matrix * (reader.slopes / (2 * max(count, 1))).sqrt()[:, None]
        self.at = at.to(matrix.device)

    def costs(self) -> Tensor:
        """What taking each channel now would cost: (channels,)."""
        blocks = self.inverse[self.at[:, :, None], self.at[:, None, :]]
        weights = self.weight[:, self.at].movedim(1, 0)  # (channels, outputs, inputs of one)
        solved = torch.linalg.solve(blocks, weights.mT)
        costs: Tensor = (weights.mT * solved).sum((1, 2))
        return costs

    def take(self, channel: int) -> None:
        """Refit without the channel."""
        at = self.at[channel]
        block, rows = self.inverse[at[:, None], at], self.inverse[at]
        solved = torch.linalg.solve(block, rows)
        self.weight -= self.weight[:, at] @ solved
        self.inverse -= rows.T @ solved
        # what is gone stays gone: its own inverse is 1 again, so that blocks can be solved
        self.inverse[at, :] = 0
        self.inverse[:, at] = 0
        self.inverse[at, at] = 1
        self.weight[:, at] = 0


def _eliminated(
    graph: Graph, group: ChannelGroup, read: Sequence[tuple[_Reader, Tensor]], count: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The cost of every channel at its turn; never less than that of one before it."""
    surgeons = [_Surgeon(graph, reader, at, count) for reader, at in read]
    values = np.zeros(group.size)
    gone = torch.zeros(group.size, dtype=torch.bool)
    reached = 0.0
    for _ in range(group.size):
        costs = sum((s.costs().cpu() for s in surgeons), torch.zeros(()))
        channel = int(torch.where(gone, torch.inf, costs).argmin())
        reached = max(reached, float(costs[channel]))
        values[channel] = reached
        gone[channel] = True
        for surgeon in surgeons:
            surgeon.take(channel)
    return values
