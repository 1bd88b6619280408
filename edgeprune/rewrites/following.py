"""The network that the target runs once rewrites were applied, with its sizes by width.

Costs are read from it, since the kernels are its own; plans speak of the groups of the network that
was captured. The rewritten network reads the same parameters, so its channels are followed as any
network's are, and each belongs to the group that owns the same slices of the same parameters.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from edgeprune.channels.analysis import Analysis, followed
from edgeprune.channels.core import Value
from edgeprune.channels.extents import Where, extents_of
from edgeprune.errors import LoweringError
from edgeprune.graph import capture
from edgeprune.provenance import shared_provenance
from edgeprune.quiet import quiet
from edgeprune.records import ChannelGroup, ChannelGroups, Extent, Graph, Target
from edgeprune.rewrites.core import rewritten
from edgeprune.rewrites.needed import needed
from edgeprune.static import static_program

_RUNS_FROM = "Interpreter_Interpreter"
"""What `torch.export` notes about nodes that it traced from those of another graph."""


@dataclass(frozen=True)
class Made:
    """A rewritten network, where its channels flow, and how often each rewrite was applied."""

    graph: Graph
    analysis: Analysis
    applied: Mapping[str, int]


_KNOWN: weakref.WeakKeyDictionary[fx.GraphModule, Made | None] = weakref.WeakKeyDictionary()


def applies(target: Target) -> bool:
    """Whether programs for `target` are rewritten: XNNPACK in floats, unless it says otherwise."""
    return target.rewrite and target.backend == "xnnpack" and target.dtype in ("fp32", "fp16")


def as_run(graph: Graph, groups: ChannelGroups, target: Target) -> tuple[Graph, ChannelGroups]:
    """What `target` runs of `graph`, and `groups` with the dimensions of its tensors.

    Both as they are where there is nothing to rewrite, or the target does not ask for it. Else the
    graph is for a batch of one; the nodes of it say in `meta["origin"]` which node of `graph` they
    compute, or a part of. Raises LoweringError where the two cannot be brought together.
    """
    made = _known(graph, target)
    return (graph, groups) if made is None else (made.graph, brought_to(made, graph, groups))


def brought_to(made: Made, graph: Graph, groups: ChannelGroups) -> ChannelGroups:
    """`groups` of `graph` with the dimensions of the tensors of `made`, which was made of it.

    Raises LoweringError where the two cannot be brought together.
    """
    where = _groups_of(made.analysis, groups.groups, graph.name)
    extents = {
        node.name: extents_of(value, where)
        for node, value in made.analysis.held.items()
        if isinstance(value, Value)
    }
    return replace(groups, extents=_agreed(made.graph, extents, graph, groups.extents))


def rewrites_of(graph: Graph, target: Target) -> Mapping[str, int]:
    """How often each rewrite is applied to `graph` in programs for `target`, by name."""
    made = _known(graph, target)
    return {} if made is None else made.applied


def _known(graph: Graph, target: Target) -> Made | None:
    if not applies(target):
        return None
    if graph.program not in _KNOWN:
        _KNOWN[graph.program] = _made(graph)
    return _KNOWN[graph.program]


def _made(graph: Graph) -> Made | None:
    if not needed(graph.program.graph):
        return None
    inputs = of_one(graph)
    with quiet(), shared_provenance(), torch.no_grad():
        program, applied = rewritten(static_program(graph, inputs))
    return followed_again(graph, program, applied)


def of_one(graph: Graph) -> tuple[Tensor, ...]:
    """The example inputs of `graph`, as a batch of one where its batch is open."""
    return tuple(x[:1] if graph.dynamic_batch else x for x in graph.example_inputs)


def followed_again(graph: Graph, program: ExportedProgram, applied: Mapping[str, int]) -> Made:
    """`program`, which was made of `graph` for a batch of one, with its channels followed."""
    made = capture(program, of_one(graph), name=graph.name)
    names = {node.name for node in graph.program.graph.nodes}
    for node in made.program.graph.nodes:
        node.meta["origin"] = _origin(node, names)
    made.program.to("meta")  # only shapes are read, and the weights are there already
    return Made(made, followed(made), applied)


def _origin(node: fx.Node, names: set[str]) -> str | None:
    """The node of the captured network that `node` was traced from; none for a constant."""
    sources = node.meta.get("from_node")
    while sources:
        source = sources[-1]
        if source.pass_name == _RUNS_FROM and source.name in names:
            return str(source.name)
        sources = source.from_node
    return None


def _groups_of(analysis: Analysis, groups: tuple[ChannelGroup, ...], name: str) -> Where:
    """Where the channels of the rewritten network ended up, by what parameters they own."""
    number = np.full(int(analysis.classes.max()) + 1, -1)
    for index, group in enumerate(groups):
        for piece in group.slices:
            ids = analysis.parameters.get(piece.parameter, ())
            vector = ids[piece.dim] if ids else None
            if vector is None:  # read by nothing any more: computed into a constant
                continue
            place = vector.numpy()[piece.positions]
            found = np.unique((analysis.owners if group.holds else analysis.classes)[place])
            found = found[found > 0]
            if np.any((number[found] >= 0) & (number[found] != index)):
                raise LoweringError(
                    f"{name}: the channels of {group.name} cannot be told from others once the "
                    "network is rewritten for its target; use --no-rewrite (rewrite = false)"
                )
            number[found] = index
    return Where(analysis, number, [g.name for g in groups], [g.size for g in groups])


def _agreed(
    run: Graph,
    extents: Mapping[str, tuple[Extent, ...]],
    graph: Graph,
    known: Mapping[str, tuple[Extent, ...]],
) -> dict[str, tuple[Extent, ...]]:
    """The dimensions of the rewritten network's tensors: where a tensor is one of the captured
    network's, what is known of that one."""
    shapes = {node.name: node.meta.get("shape") for node in graph.program.graph.nodes}
    last = {node.meta["origin"]: node for node in run.program.graph.nodes}
    found = dict(extents)
    for origin, node in last.items():
        if origin in known and node.name in found and shapes[origin] == node.meta["shape"]:
            found[node.name] = known[origin]
    for node in run.program.graph.nodes:
        if node.name in found and _is_pointwise(node):
            for operand in node.all_input_nodes:
                if operand.op == "get_attr" and operand.name in found:
                    found[operand.name] = _beside(found[operand.name], found[node.name])
    return found


def _is_pointwise(node: fx.Node) -> bool:
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def _beside(constant: tuple[Extent, ...], result: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """The dimensions of a constant operand: computed from parameters it has lost their channels,
    and has as many as the result where it is not repeated."""
    kept = result[len(result) - len(constant) :]
    return tuple(
        own if own.groups or own.fixed == 1 else other
        for own, other in zip(constant, kept, strict=True)
    )
