"""Where the channels of a group can be watched while the network runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeprune.records import ChannelGroup, Graph, ParameterSlice

aten = torch.ops.aten


Place = tuple[fx.Node, str]
"""A node and whether what it reads ("in") or makes ("out") is watched."""


@dataclass(frozen=True)
class Port:
    """The arguments of an op that hold its input and its weight, and the dimension of channels."""

    inputs: int
    weight: int
    dim: int


_PORTS: dict[Any, Port] = {
    **dict.fromkeys(
        (
            aten.conv1d.default, aten.conv1d.padding, aten.conv2d.default, aten.conv2d.padding,
            aten.conv3d.default, aten.conv3d.padding, aten.conv_transpose1d.default,
            aten.conv_transpose2d.input, aten.conv_transpose3d.input,
        ),
        Port(0, 1, 1),
    ),
    aten.linear.default: Port(0, 1, -1),
    aten.matmul.default: Port(0, 1, -1),
    aten.mm.default: Port(0, 1, -1),
    aten.addmm.default: Port(1, 2, -1),
    aten.embedding.default: Port(1, 0, -1),
}  # fmt: skip


@dataclass(frozen=True)
class Tap:
    """A tensor in which channel i of a group is at the indices `positions[i]` along `dim`.

    With `side` "in" it is what `node` reads through its weight, with "out" what `node` makes.
    """

    node: fx.Node
    side: str
    dim: int
    positions: NDArray[np.int64]

    @property
    def place(self) -> Place:
        """The tensor, as a key."""
        return self.node, self.side


def taps(graph: Graph, group: ChannelGroup) -> tuple[Tap, ...]:
    """Where the group's channels are read, or made, if no layer with weights reads them.

    Empty where neither is a layer that is known (a table that is added to nothing).
    """
    users: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.program.graph.nodes:
        port = _PORTS.get(node.target)
        weight = None if port is None else node.args[port.weight]
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            users[str(weight.target)].append(node)
    for side in ("in", "out"):
        found = tuple(
            tap
            for part in group.slices
            if part.role == side
            for node in users[part.parameter]
            if (tap := _tap(node, part, side)) is not None
        )
        if found:
            return found
    return ()


def tensor_of(place: Place) -> fx.Node:
    """The node that makes a watched tensor."""
    node, side = place
    source = node if side == "out" else node.args[_PORTS[node.target].inputs]
    assert isinstance(source, fx.Node)
    return source


def _tap(node: fx.Node, part: ParameterSlice, side: str) -> Tap | None:
    """A slice of a weight as indices of the activation: repeated for each group of a convolution
    that holds the same positions."""
    port = _PORTS[node.target]
    source = node.args[port.inputs] if side == "in" else node
    if not isinstance(source, fx.Node) or source.meta.get("shape") is None:
        return None
    shape = source.meta["shape"]
    weight = node.args[port.weight]
    assert isinstance(weight, fx.Node)
    per_group = weight.meta["shape"][part.dim]
    channels = shape[port.dim]
    if channels % per_group:
        return None
    starts = np.arange(0, channels, per_group)
    positions = (part.positions[:, None, :] + starts[None, :, None]).reshape(
        len(part.positions), -1
    )
    return Tap(node, side, port.dim % len(shape), positions)


class Watching(fx.Interpreter):
    """Runs the graph and hands every tapped tensor to `see(tap's place, tensor)`, whose answer
    takes the tensor's place for that one reader, or for all readers of what a node makes."""

    def __init__(
        self,
        graph: Graph,
        watched: set[Place],
        see: Callable[[Place, Tensor], Tensor],
    ) -> None:
        super().__init__(graph.program)
        self.watched, self.see = watched, see

    def run_node(self, n: fx.Node) -> Any:
        """One node, with what it reads or makes seen."""
        if (n, "in") in self.watched:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            place = _PORTS[n.target].inputs
            seen = self.see((n, "in"), args[place])
            args = (*args[:place], seen, *args[place + 1 :])
            result = self.call_function(n.target, args, kwargs)
        else:
            result = super().run_node(n)
        return self.see((n, "out"), result) if (n, "out") in self.watched else result
