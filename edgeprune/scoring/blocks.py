"""How much a residual block matters: what its branch adds to the stream.

Single blocks can go because a residual network is an ensemble of paths (Veit, Wilber and Belongie
2016, arXiv 1605.06431); scores rank them the way channels are ranked, and in the same units.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx, nn

from edgeprune.dataflow import Dataflow
from edgeprune.dropping import scale_branches
from edgeprune.graph import attribute
from edgeprune.records import Block, Graph
from edgeprune.scoring.core import Samples

aten = torch.ops.aten

_GATES = (aten.sigmoid.default, aten.hardsigmoid.default, aten.softmax.int)
SAMPLES = 512
CHUNK = 32


def score_blocks(
    graph: Graph,
    blocks: Sequence[Block],
    data: Samples | None = None,
    *,
    second_order: bool = False,
) -> dict[str, float]:
    """The importance of every block, by name: in units of the loss where there is data, to first
    order (to go with "taylor") or to second (to go with "fisher" and "refit"), else in average
    channels (to go with the criteria that are relative to a mean)."""
    if not blocks:
        return {}
    if data is None:
        return _magnitude(graph, blocks)
    return (_fisher if second_order else _taylor)(graph, blocks, data)


def _taylor(graph: Graph, blocks: Sequence[Block], data: Samples) -> dict[str, float]:
    """|first-order change of the loss| when the branch's output is multiplied by zero.

    That is |sum of gradient times value| over the branch's output, averaged over batches of 32: the
    gradient of a gate on the branch (Molchanov et al. 2017, arXiv 1611.06440, equation 7; gates as
    in Molchanov et al. 2019, arXiv 1906.10771; a factor per block as in Huang and Wang 2018,
    arXiv 1707.01213).
    """
    module = copy.deepcopy(graph.program).eval()
    gates = []
    for i, block in enumerate(blocks):
        gates.append(nn.Parameter(torch.ones((), device=_device(module))))
        module.register_parameter(f"gate_{i}", gates[-1])
        scale_branches(module, [(block, f"gate_{i}")])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("gate_"))
    totals, batches = torch.zeros(len(gates), dtype=torch.float64), 0
    for inputs, targets in _pieces(data):
        device = _device(module)
        loss = data.loss(module(inputs.to(device)), targets.to(device))
        found = torch.autograd.grad(loss, gates, allow_unused=True)
        slopes = [0.0 if slope is None else float(slope) for slope in found]
        totals += torch.tensor(slopes, dtype=torch.float64).abs()
        batches += 1
    return {
        block.name: float(total) / max(batches, 1)
        for block, total in zip(blocks, totals, strict=True)
    }


def _fisher(graph: Graph, blocks: Sequence[Block], data: Samples) -> dict[str, float]:
    """Half the mean over samples of the squared slope of the loss by a gate on the branch: what
    optimal brain damage (LeCun et al. 1990) says of the gate, with the empirical Fisher information
    in the Hessian's place, as the criterion "fisher" has it for channels."""
    module = copy.deepcopy(graph.program).eval().requires_grad_(False)
    names = [f"gate_{i}" for i in range(len(blocks))]
    shapes = {node.name: node.meta.get("shape") for node in graph.program.graph.nodes}
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.ones(())))
    scale_branches(module, list(zip(blocks, names, strict=True)))
    totals, samples = torch.zeros(len(blocks), dtype=torch.float64), 0
    for inputs, targets in _pieces(data):
        device, count = _device(module), len(inputs)
        gates = []
        for name, block in zip(names, blocks, strict=True):
            ones = torch.ones(count, *[1] * (len(shapes[block.add]) - 1), device=device)
            gates.append(nn.Parameter(ones))
            setattr(module, name, gates[-1])
        loss = data.loss(module(inputs.to(device)), targets.to(device)) * count
        found = torch.autograd.grad(loss, gates, allow_unused=True)
        for i, slopes in enumerate(found):
            totals[i] += 0.0 if slopes is None else float(slopes.double().square().sum())
        samples += count
    return {
        block.name: float(total) / 2 / max(samples, 1)
        for block, total in zip(blocks, totals, strict=True)
    }


def _magnitude(graph: Graph, blocks: Sequence[Block]) -> dict[str, float]:
    """The magnitude of the last weight in the branch (a norm's or layer scale's gain, or a matrix
    by rows) over the mean of the blocks that end in the same kind of weight, times its channels.

    The branch's output is proportional to it. Elkerdawy et al. 2020 (arXiv 2007.05667) rank layers
    by magnitude; a gain that trains towards zero is the criterion of Huang and Wang 2018.
    """
    flow = Dataflow(graph.program.graph)
    nodes = {node.name: node for node in flow.order}
    same_kind: dict[tuple[str, int], list[float]] = defaultdict(list)
    found = {}
    for block in blocks:
        reader, weight = _last_weight(graph.program, flow, nodes[block.branch])
        rows = weight.detach().double().abs().flatten(1 if weight.dim() > 1 else 0)
        size = float(rows.norm(dim=1).mean() if weight.dim() > 1 else rows.mean())
        kind = (str(reader.target), weight.dim())
        found[block.name] = (kind, size, weight.shape[0])
        same_kind[kind].append(size)
    means = {kind: sum(sizes) / len(sizes) for kind, sizes in same_kind.items()}
    return {
        name: channels * (size / means[kind] if means[kind] > 0 else 1.0)
        for name, (kind, size, channels) in found.items()
    }


def _last_weight(module: fx.GraphModule, flow: Dataflow, end: fx.Node) -> tuple[fx.Node, Tensor]:
    """The last node on the way to a branch's `end` that multiplies by a parameter, with the
    parameter. What only opens and closes gates is not on the way; what is added is second choice.
    """
    waiting, added = {end}, []
    while waiting:
        node = max(waiting, key=flow.order.__getitem__)
        waiting.remove(node)
        if node.target in _GATES:
            continue
        read = sorted(flow.sources({node}), key=flow.order.__getitem__)
        tensors = [attribute(module, str(n.target)) for n in read if n.op == "get_attr"]
        weights = [t for t in tensors if isinstance(t, nn.Parameter)]
        if weights:
            found = node, max(weights, key=Tensor.dim)  # of equals the first: not the bias
            if node.target is not aten.add.Tensor:
                return found
            added.append(found)
        waiting |= flow.needs[node] & flow.from_input
    return added[0]  # a block reads a parameter: that is part of what makes it one


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _pieces(data: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """At most SAMPLES training samples in small batches, so that signs do not cancel."""
    left = SAMPLES
    for inputs, targets in data.train_plain:
        for piece in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True):
            if left <= 0:
                return
            yield piece
            left -= CHUNK
