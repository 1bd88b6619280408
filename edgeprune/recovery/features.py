"""Feature matching: tensors inside the smaller network are drawn to the teacher's.

Hints as FitNets have them (Romero et al. 2015, arXiv 1412.6550), but without a regressor between
widths: a cut says which of the teacher's channels the smaller network kept, so that each channel is
compared with the one that it was. Tensors are compared where a network is about to change its
resolution: those are the ones that all later layers read.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from edgeprune.forms import ports
from edgeprune.graph import open_dims
from edgeprune.records import Graph
from edgeprune.recovery.twins import Positions

aten = torch.ops.aten

_KEEPS_CHANNELS = (
    aten.batch_norm.default,
    aten.layer_norm.default,
    aten.dropout.default,
    aten.clone.default,
    aten.contiguous.default,
)
"""What leaves channels where they are, beside the ops that ATen tags pointwise."""


@dataclass(frozen=True)
class Match:
    """A tensor that both networks have, under the name of its node: channel `i` of the smaller
    network's, along `dim`, is channel `stays[i]` of the teacher's (None: all channels stayed)."""

    name: str
    dim: int
    stays: NDArray[np.int64] | None


def matches(full: Graph, small: Graph, positions: Positions) -> tuple[Match, ...]:
    """The tensors of `small` to be compared with those of `full`: one for each resolution.

    At each resolution (all dimensions but batch and channels; more than one position) it is the
    last sum of two tensors, or, where there is none, the last tensor whose channels can be followed
    from a layer with weights. `positions` say what a cut left of each parameter
    (`surgery.kept_positions`); nothing is said about tensors that they do not explain.
    """
    shapes = {node.name: node.meta.get("shape") for node in full.program.graph.nodes}
    known: dict[fx.Node, Match] = {}
    last: dict[tuple[bool, tuple[int, ...]], Match] = {}
    for node in small.program.graph.nodes:
        match = _made(node, positions) or _passed_on(node, known)
        if match is None or not _agree(node.meta["shape"], shapes.get(node.name), match):
            continue
        known[node] = match
        shape = node.meta["shape"]
        around = tuple(n for d, n in enumerate(shape) if d not in (0, match.dim))
        if 0 in open_dims(node) and int(np.prod(around)) > 1:
            last[_is_sum(node), around] = match
    sums = {around for is_sum, around in last if is_sum}
    return tuple(match for (is_sum, around), match in last.items() if is_sum or around not in sums)


def tapped(program: fx.GraphModule, found: Sequence[Match]) -> fx.GraphModule:
    """The same network, on the same parameters, that also returns the tensors that are compared:
    (what it returned, a tuple of tensors). Its `training` is its own."""
    graph = copy.deepcopy(program.graph)
    nodes = {node.name: node for node in graph.nodes}
    output = next(iter(reversed(graph.nodes)))
    codegen: Any = graph._codegen
    told = codegen.pytree_info
    leaves = range(told.out_spec.num_leaves)
    pair = (pytree.tree_unflatten(leaves, told.out_spec), tuple(found))
    output.args = ((*output.args[0], *(nodes[match.name] for match in found)),)
    told = told._replace(out_spec=pytree.tree_structure(pair))
    graph.set_codegen(type(codegen)(told))
    module = fx.GraphModule(program, graph)
    module.train(program.training)
    return module


def difference(seen: Sequence[Tensor], wanted: Sequence[Tensor], found: Sequence[Match]) -> Tensor:
    """The squared difference of tensors over the square of the teacher's, sample by sample; its
    mean over samples and tensors."""
    parts = []
    for own, twin, match in zip(seen, wanted, found, strict=True):
        own, twin = own.float(), twin.float()
        if match.stays is not None:
            index = torch.from_numpy(match.stays).to(twin.device)
            twin = twin.index_select(match.dim, index)
        energy = twin.square().flatten(1).sum(1).clamp_min(torch.finfo(twin.dtype).tiny)
        parts.append(((own - twin).square().flatten(1).sum(1) / energy).mean())
    return torch.stack(parts).mean()


def _made(node: fx.Node, positions: Positions) -> Match | None:
    """The channels of a layer with weights, by what stayed of its weight."""
    own = ports(node)
    if own is None or node.meta.get("shape") is None:
        return None
    weight: Any = node.args[own.weight]
    stays = positions.get((str(weight.target), own.output_dim))
    return Match(node.name, own.channel_dim % len(node.meta["shape"]), stays)


def _passed_on(node: fx.Node, known: dict[fx.Node, Match]) -> Match | None:
    """The channels that a node has from an operand of its own shape."""
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    if not pointwise and node.target not in _KEEPS_CHANNELS:
        return None
    for source in node.all_input_nodes:
        if source in known and source.meta["shape"] == node.meta.get("shape"):
            return Match(node.name, known[source].dim, known[source].stays)
    return None


def _agree(shape: tuple[int, ...], twin: tuple[int, ...] | None, match: Match) -> bool:
    """Whether a tensor is its twin's at the channels that stayed."""
    if twin is None or len(twin) != len(shape):
        return False
    left = twin[match.dim] if match.stays is None else len(match.stays)
    return shape == (*twin[: match.dim], left, *twin[match.dim + 1 :])


def _is_sum(node: fx.Node) -> bool:
    operands = [n for n in node.all_input_nodes if n.op != "get_attr"]
    same = all(n.meta.get("shape") == node.meta["shape"] for n in operands)
    return node.target is aten.add.Tensor and len(operands) == 2 and same
