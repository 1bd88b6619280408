"""Two networks side by side: the one before a cut, and what the cut left of it.

Their nodes have the same names. From that follow the layers whose inputs are no longer what they
were, and an order in which both networks can be run step by step: every step ends where all is
known that one such layer needs, before the layer itself or anything after it is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from edgeprune.forms import Ports, ports
from edgeprune.graph import attribute
from edgeprune.records import Graph
from edgeprune.recovery.norms import Norm, norm_of

aten = torch.ops.aten

Positions = Mapping[tuple[str, int], NDArray[np.int64]]
"""Which positions of a parameter stay along a dimension, in the smaller network's order; what is
not named stays whole (as `surgery.kept_positions` has it)."""

_PASSES = (aten.dropout.default, aten.clone.default, aten.contiguous.default)
"""What does nothing to a tensor in eval mode."""


@dataclass(frozen=True)
class Sum:
    """Where a layer's output, through the batch norms `norms`, is added to another tensor: `other`
    in the smaller network, `twin` in the one before the cut."""

    norms: tuple[Norm, ...]
    other: fx.Node
    twin: fx.Node


@dataclass(frozen=True)
class Layer:
    """A layer of the smaller network whose input changed, its twin, and what surrounds it.

    `norm` is the batch norm that alone reads its output, where there is one.
    """

    node: fx.Node
    twin: fx.Node
    ports: Ports
    norm: Norm | None
    sum: Sum | None

    @property
    def weight(self) -> str:
        """The weight's name."""
        return str(self.node.args[self.ports.weight].target)  # type: ignore[union-attr]

    @property
    def bias(self) -> str | None:
        """The bias's name, None where the layer has none."""
        place = self.ports.bias
        bias = self.node.args[place] if place is not None and len(self.node.args) > place else None
        return str(bias.target) if isinstance(bias, fx.Node) else None

    @property
    def inputs(self) -> fx.Node:
        """The node that it reads."""
        source = self.node.args[self.ports.inputs]
        assert isinstance(source, fx.Node)
        return source

    @property
    def reads(self) -> tuple[fx.Node, ...]:
        """Every node of either network that refitting it must know."""
        beside = () if self.sum is None else (self.sum.other, self.sum.twin)
        return (self.inputs, self.twin, *beside)


@dataclass(frozen=True)
class Step:
    """What to run, in this order, until everything that `layer` reads is known; after the run of
    `nodes[i]`, the values of `dead[i]` are not needed any more, after the step those of `over`."""

    layer: Layer
    nodes: tuple[fx.Node, ...]
    dead: tuple[tuple[fx.Node, ...], ...]
    over: tuple[fx.Node, ...]


def changed_layers(full: Graph, small: Graph, positions: Positions) -> tuple[Layer, ...]:
    """The layers with weights of their own whose input differs between the networks, in order.

    A weight that several places read, or that holds zeros which must stay, is left out.
    """
    twins = {node.name: node for node in full.program.graph.nodes}
    changed = _changed(full, small, positions)
    readers: Counter[str] = Counter()
    for node in small.program.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] += len(node.users)
    found: list[Layer] = []
    taken: set[fx.Node] = set()
    for node in small.program.graph.nodes:
        own = ports(node)
        if own is None or node.name not in twins:
            continue
        add = _addition(node)
        layer = Layer(node, twins[node.name], own, _norm_after(node), None)
        if layer.inputs not in changed or readers[layer.weight] > 1 or layer.weight in small.masks:
            continue
        if add is not None and add not in taken and add.name in twins:
            taken.add(add)
            layer = Layer(node, twins[node.name], own, layer.norm, _sum(node, add, twins[add.name]))
        found.append(layer)
    return tuple(found)


def in_steps(layers: Sequence[Layer]) -> tuple[Step, ...]:
    """The order to run both networks in. A layer comes after all that its input depends on, and
    after what its output is added to."""
    if not layers:
        return ()
    order = {
        node: i
        for graph in (layers[0].twin.graph, layers[0].node.graph)
        for i, node in enumerate(graph.nodes)
    }
    by_node = {layer.node: layer for layer in layers}
    placed: set[fx.Node] = set()
    done: set[fx.Node] = set()
    pending: list[fx.Node] = []
    found: list[tuple[Layer, list[fx.Node]]] = []

    def reach(targets: Iterable[fx.Node]) -> None:
        for node in sorted(_ancestors(targets, done), key=order.__getitem__):
            if node in by_node and node not in placed:
                place(by_node[node])
            if node not in done:
                done.add(node)
                pending.append(node)

    def place(layer: Layer) -> None:
        placed.add(layer.node)
        reach(layer.reads)
        found.append((layer, [*pending]))
        pending.clear()

    for layer in layers:
        if layer.node not in placed:
            place(layer)
    return _with_ends(found)


def _with_ends(found: Sequence[tuple[Layer, list[fx.Node]]]) -> tuple[Step, ...]:
    """Steps that know when a value was read for the last time."""
    last: dict[fx.Node, tuple[int, int]] = {}
    for i, (layer, nodes) in enumerate(found):
        for j, node in enumerate(nodes):
            for source in (node, *node.all_input_nodes):
                last[source] = (i, j)
        for node in layer.reads:
            last[node] = (i, len(nodes))
    ends: dict[tuple[int, int], list[fx.Node]] = {}
    for node, place in last.items():
        ends.setdefault(place, []).append(node)
    return tuple(
        Step(
            layer,
            tuple(nodes),
            tuple(tuple(ends.get((i, j), ())) for j in range(len(nodes))),
            tuple(ends.get((i, len(nodes)), ())),
        )
        for i, (layer, nodes) in enumerate(found)
    )


def _ancestors(targets: Iterable[fx.Node], done: set[fx.Node]) -> set[fx.Node]:
    """The targets and all that they depend on, without what is done and without parameters."""
    found: set[fx.Node] = set()
    stack = [node for node in targets if node not in done]
    while stack:
        node = stack.pop()
        if node in found or node in done or node.op == "get_attr":
            continue
        found.add(node)
        stack += node.all_input_nodes
    return found


def _changed(full: Graph, small: Graph, positions: Positions) -> set[fx.Node]:
    """The nodes of the smaller network whose values are not what they were."""
    cut = {
        name
        for (name, dim), stays in positions.items()
        if not np.array_equal(stays, np.arange(attribute(full.program, name).shape[dim]))
    } | set(small.masks)
    twins = {node.name: node for node in full.program.graph.nodes}
    found: set[fx.Node] = set()
    for node in small.program.graph.nodes:
        if node.op == "get_attr":
            changed = str(node.target) in cut
        else:
            twin = twins.get(node.name)
            names = [n.name for n in node.all_input_nodes]
            same = twin is not None and names == [n.name for n in twin.all_input_nodes]
            changed = not same or any(n in found for n in node.all_input_nodes)
        if changed:
            found.add(node)
    return found


def _norm_after(node: fx.Node) -> Norm | None:
    """The batch norm that alone reads a node."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    norm = norm_of(user)
    return norm if norm is not None and user.args[0] is node else None


def _addition(node: fx.Node) -> fx.Node | None:
    """The addition to another tensor that alone reads a layer's output, through batch norms and
    what does nothing."""
    current = node
    while len(current.users) == 1:
        (user,) = current.users
        if user.target in _PASSES or _norm_after(current) is not None:
            current = user
            continue
        plain = user.target is aten.add.Tensor and len(user.args) == 2 and not user.kwargs
        both = all(isinstance(arg, fx.Node) for arg in user.args)
        return user if plain and both and user.args[0] is not user.args[1] else None
    return None


def _sum(node: fx.Node, add: fx.Node, twin: fx.Node) -> Sum | None:
    norms, current = [], node
    while add not in current.users:
        (current,) = current.users
        norm = norm_of(current)
        norms += [] if norm is None else [norm]
    place = 1 - add.args.index(current)
    sources: list[Any] = [add.args[place], twin.args[place] if len(twin.args) > place else None]
    if not all(isinstance(source, fx.Node) and source.op != "get_attr" for source in sources):
        return None
    return Sum(tuple(norms), *sources)
