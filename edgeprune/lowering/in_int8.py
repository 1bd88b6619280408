"""The network that the target runs once it is in int8, with its sizes by width.

Costs are read from it, as they are from a rewritten network (see rewrites/following.py): the
quantizer of the backend says what is in int8 and where tensors are converted. Which numbers it was
calibrated on does not matter to the time.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace

from torch import fx

from edgeprune.cost.int8_nodes import DEQUANTISE, QUANTISE
from edgeprune.lowering.quantising import INT8, simulated
from edgeprune.quiet import quiet
from edgeprune.records import ChannelGroups, Extent, Graph, Target
from edgeprune.rewrites import as_run
from edgeprune.rewrites.following import Made, brought_to, followed_again, of_one
from edgeprune.static import static_program

_KNOWN: weakref.WeakKeyDictionary[fx.GraphModule, tuple[Made, fx.GraphModule]] = (
    weakref.WeakKeyDictionary()
)


def as_priced(graph: Graph, groups: ChannelGroups, target: Target) -> tuple[Graph, ChannelGroups]:
    """The network whose kernels `target` executes for `graph`, and `groups` with its sizes: in
    int8, rewritten, or as it is. Estimates by peak rates are of the network as it is in fp32."""
    in_int8 = (target.backend, target.dtype) == ("xnnpack", INT8) and target.runner != "roofline"
    return (as_run_in_int8 if in_int8 else as_run)(graph, groups, target)


def as_run_in_int8(
    graph: Graph, groups: ChannelGroups, target: Target
) -> tuple[Graph, ChannelGroups]:
    """What `target`, of dtype int8, runs of `graph`, and `groups` with the dimensions of its
    tensors, for a batch of one.

    Raises LoweringError where the backend has no quantizer, or upstream refuses.
    """
    if graph.program not in _KNOWN:
        _KNOWN[graph.program] = _marked(graph, target)
    made, marked = _KNOWN[graph.program]
    groups = brought_to(made, graph, groups)
    extents = _extents(marked.graph, made.graph.program.graph, groups.extents)
    return replace(made.graph, program=marked), replace(groups, extents=extents)


def _marked(graph: Graph, target: Target) -> tuple[Made, fx.GraphModule]:
    inputs = of_one(graph)
    with quiet():
        program = static_program(graph, inputs)
    made = followed_again(graph, program, {})
    module = program.module(check_guards=False)
    marked = simulated(graph.name, target, lambda backend: module, [inputs])
    twins = {node.name: node for node in made.graph.program.graph.nodes}
    for node in marked.graph.nodes:
        node.meta["origin"] = twins[node.name].meta["origin"] if node.name in twins else None
    return made, marked


def _extents(
    marked: fx.Graph, before: fx.Graph, known: Mapping[str, tuple[Extent, ...]]
) -> dict[str, tuple[Extent, ...]]:
    """The dimensions of a quantised network's tensors from those of the same network before."""
    twins = {node.name: node for node in before.nodes}
    found: dict[str, tuple[Extent, ...]] = {}
    for node in marked.nodes:
        if str(node.target) in (QUANTISE, DEQUANTISE):
            source = node.args[0]
            if source.name in found:
                found[node.name] = found[source.name]
            continue
        twin = twins.get(node.name)
        if twin is None:
            continue
        if twin.name in known:
            found[node.name] = known[twin.name]
        for own, other in zip(node.args, twin.args, strict=False):
            if isinstance(own, fx.Node) and isinstance(other, fx.Node) and other.name in known:
                found.setdefault(own.name, known[other.name])  # a weight, now dequantised
    return found
