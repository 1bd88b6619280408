"""How much a residual block matters: what its branch adds to the stream.

Single blocks can go because a residual network is an ensemble of paths (Veit, Wilber and Belongie
2016, arXiv 1605.06431); scores rank them the way channels are ranked, and in the same units.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeprune.choices import CRITERIA
from edgeprune.dataflow import Dataflow
from edgeprune.dropping import scale_branches
from edgeprune.errors import PlanError
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
    criterion: str = "taylor",
) -> dict[str, float]:
    """The importance of every block, by name, in the units that `criterion` has for channels: of
    the loss, to first order ("taylor") or to second (others that are changes of the loss), or,
    where it is none or there is no data, average channels."""
    if not blocks:
        return {}
    if data is None or not CRITERIA[criterion].in_loss:
        return _magnitude(graph, blocks)
    return (_taylor if criterion == "taylor" else _fisher)(graph, blocks, data)


def _taylor(graph: Graph, blocks: Sequence[Block], data: Samples) -> dict[str, float]:
    """|first-order change of the loss| when the branch's output is multiplied by zero.

    That is |sum of gradient times value| over the branch's output, averaged over batches of 32: the
    gradient of a gate on the branch (Molchanov et al. 2017, arXiv 1611.06440, equation 7; gates as
    in Molchanov et al. 2019, arXiv 1906.10771; a factor per block as in Huang and Wang 2018,
    arXiv 1707.01213).
    """
    totals, batches = torch.zeros(len(blocks), dtype=torch.float64), 0
    for slopes in _slopes(graph, blocks, data, by_sample=False):
        totals += torch.stack([slope.abs().sum() for slope in slopes])
        batches += 1
    return _named(blocks, totals / max(batches, 1))


def _fisher(graph: Graph, blocks: Sequence[Block], data: Samples) -> dict[str, float]:
    """Half the mean over samples of the squared slope of the loss by a gate on the branch: what
    optimal brain damage (LeCun et al. 1990) says of the gate, with the empirical Fisher information
    in the Hessian's place, as the criterion "fisher" has it for channels."""
    totals, samples = torch.zeros(len(blocks), dtype=torch.float64), 0
    for slopes in _slopes(graph, blocks, data, by_sample=True):
        count = len(slopes[0])
        totals += torch.stack([(slope * count).square().sum() for slope in slopes])
        samples += count
    return _named(blocks, totals / 2 / max(samples, 1))


def _slopes(
    graph: Graph, blocks: Sequence[Block], data: Samples, *, by_sample: bool
) -> Iterator[list[Tensor]]:
    """For every piece of the samples, the slope of its mean loss by a gate on each branch: by one
    gate for all of the piece, (1,), or by one for each sample, (samples,)."""
    module = copy.deepcopy(graph.program).eval().requires_grad_(False)
    names = [f"gate_{i}" for i in range(len(blocks))]
    for name in names:
        module.register_buffer(name, torch.ones(()))
    scale_branches(module, list(zip(blocks, names, strict=True)))
    device = _device(module)
    places: list[tuple[int, int]] = []
    for inputs, targets in _pieces(data):
        if by_sample and not places:
            places = _batch_dims(module, blocks, inputs[:1].to(device))
        gates = [torch.ones(len(inputs) if by_sample else 1, device=device) for _ in names]
        for i, (name, gate) in enumerate(zip(names, gates, strict=True)):
            gate.requires_grad_(True)
            spread = gate
            if by_sample:
                dim, each = places[i]
                spread = gate.repeat_interleave(each).unflatten(0, (-1, *[1] * -(dim + 1)))
            setattr(module, name, spread)
        loss = data.loss(module(inputs.to(device)), targets.to(device))
        found = torch.autograd.grad(loss, gates, allow_unused=True)
        slopes = (
            torch.zeros_like(g) if s is None else s for g, s in zip(gates, found, strict=True)
        )
        yield [slope.detach().double().cpu() for slope in slopes]


def _batch_dims(
    module: fx.GraphModule, blocks: Sequence[Block], sample: Tensor
) -> list[tuple[int, int]]:
    """Where each block's sum has the batch: the dimension, from the end, that is twice as long for
    two samples, and how many of its positions are of one sample."""
    one, two = (_Shapes(module).of(torch.cat([sample] * count)) for count in (1, 2))
    places = []
    for block in blocks:
        sizes = list(zip(one[block.add], two[block.add], strict=True))
        grown = [(d - len(sizes), few) for d, (few, many) in enumerate(sizes) if many == 2 * few]
        if not grown:
            raise PlanError(
                f"block {block.name} has no dimension for the batch: score it with taylor or l2"
            )
        places.append(grown[0])
    return places


class _Shapes(fx.Interpreter):
    """The shape of every tensor of a program."""

    def of(self, inputs: Tensor) -> dict[str, torch.Size]:
        self.found: dict[str, torch.Size] = {}
        with torch.no_grad():
            self.run(inputs)
        return self.found

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, Tensor):
            self.found[node.name] = result.shape
        return result


def _named(blocks: Sequence[Block], values: Tensor) -> dict[str, float]:
    return dict(zip((block.name for block in blocks), values.tolist(), strict=True))


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
