"""Walking a network as the delegate sees it: what runs, in which layout, in which delegate call.

XNNPACK computes images channels-last. ExecuTorch puts a transposition where a tensor changes
between that and the network's own order (its `ChannelsLastTaggedReshapePass`), and cuts the network
where an op falls out of the delegate: each piece between such ops is one delegate call, whose
inputs and outputs are in the network's own order. Both are followed here, because both cost time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx

from edgeprune.cost.int8_nodes import INT8, in_int8, stored
from edgeprune.records import Extent, Kernel

Layout = Literal["nchw", "nhwc"]
Dims = tuple[Extent, ...]
_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)

Rule = Callable[["Walk", fx.Node], None]
RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Registers what runs for the ATen ops `targets`; a second registration raises."""

    def register(function: Rule) -> Rule:
        for target in targets:
            if target in RULES:
                raise ValueError(f"{target} has two rules")
            RULES[target] = function
        return function

    return register


@dataclass
class Value:
    """One tensor at run time: in which delegate call it is made, the layouts it exists in, and
    whether it is in int8."""

    call: int
    inside: bool
    int8: bool = False
    layouts: dict[int, set[Layout]] = field(default_factory=dict)
    own: Layout = "nchw"

    def layout_in(self, call: int) -> Layout:
        """The layout it has by itself in a delegate call: outside its own it is an input."""
        return self.own if self.inside and call == self.call else "nchw"


class Walk:
    """The state of one pass over a graph; rules read values and emit kernels through it."""

    def __init__(
        self,
        program: fx.GraphModule,
        extents: Mapping[str, Dims],
        calls: Mapping[fx.Node, int] | None = None,
    ) -> None:
        self.program = program
        self.kernels: list[Kernel] = []
        self.left: set[fx.Node] = set()
        self._calls = calls or {}
        self._entered: set[int] = set()
        self.absorbed: set[fx.Node] = set()
        self._extents = extents
        self._values: dict[fx.Node, Value] = {}

    def run(self) -> tuple[Kernel, ...]:
        """All kernels, in order of execution, delegate calls last."""
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = Value(0, inside=False)
            elif node.op == "output":
                for source in node.all_input_nodes:
                    if source in self._values:
                        self.leave(source)
            elif node.op == "call_function" and node not in self.absorbed and self._flows(node):
                self._rule_of(node)(self, node)
        calls = [Kernel("delegate_call", (), ((Extent(1),),)) for _ in self._entered]
        return (*self.kernels, *calls)

    # --- what rules ask ----------------------------------------------------------------------

    def dims(self, node: fx.Node) -> Dims:
        """A tensor's dimensions, batch 1: from the channel analysis, or constants for weights."""
        if node.name in self._extents:
            return self._extents[node.name]
        return tuple(Extent(size) for size in self.constant(node).shape)

    def source(self, node: fx.Node, index: int = 0) -> fx.Node:
        """A positional argument that must be a tensor."""
        found = node.args[index]
        assert isinstance(found, fx.Node), f"{node.name}: argument {index} is no tensor"
        return found

    def constant(self, node: fx.Node) -> torch.Tensor:
        """The parameter or buffer that a get_attr node reads, dequantised or not."""
        value: Any = self.program
        for part in str(stored(node).target).split("."):
            value = getattr(value, part)
        assert isinstance(value, torch.Tensor), f"{node.name} is no tensor"
        return value

    def is_tensor(self, arg: Any) -> bool:
        """Whether an argument is a tensor: computed, a parameter, or made of parameters only."""
        if not isinstance(arg, fx.Node):
            return False
        if arg.op == "get_attr":
            return arg.target != "training"  # the module's own flag, see graph.capture
        return arg in self._values or arg.name in self._extents

    def is_int8(self, node: fx.Node) -> bool:
        """Whether a computed tensor is in int8."""
        return self._values[node].int8

    def computed(self, node: fx.Node) -> list[fx.Node]:
        """The inputs of `node` that are computed (not parameters), in order."""
        return [source for source in node.all_input_nodes if source in self._values]

    def only_user(self, node: fx.Node, targets: Sequence[Any]) -> fx.Node | None:
        """The one reader of `node`, if it has one only and that is one of `targets`."""
        users = list(node.users)
        return users[0] if len(users) == 1 and users[0].target in targets else None

    def call_for(self, node: fx.Node) -> int:
        """The delegate call that a delegated `node` runs in (see `delegate_calls`)."""
        call = self._calls.get(node, 0)
        self._entered.add(call)
        return call

    def layout(self, sources: Sequence[fx.Node], call: int, *, converts: bool = True) -> Layout:
        """Where an op takes any layout: channels-last if some input is and all can be."""
        layouts = {self._values[source].layout_in(call) for source in sources}
        if layouts == {"nchw"} or not converts:
            return "nchw"
        return "nhwc" if all(len(self.dims(source)) == 4 for source in sources) else "nchw"

    # --- what rules do -----------------------------------------------------------------------

    def read(self, source: fx.Node, layout: Layout, call: int) -> Dims:
        """Makes `source` available in a layout inside a delegate call; its dimensions."""
        dims, value = self.dims(source), self._values[source]
        if value.inside and call != value.call:
            self._convert(value, value.call, "nchw", dims)
        self._convert(value, call, layout, dims)
        return dims

    def _convert(self, value: Value, call: int, layout: Layout, dims: Dims) -> None:
        there = value.layouts.setdefault(call, {value.layout_in(call)})
        if layout in there or len(dims) != 4:
            return
        there.add(layout)
        dtype = INT8 if value.int8 else None
        if layout == "nhwc":
            self.emit("transpose", (), (dims,), perm=_TO_NHWC, dtype=dtype)
        else:
            now = tuple(dims[d] for d in _TO_NHWC)
            self.emit("transpose", (), (now,), perm=_TO_NCHW, dtype=dtype)

    def emit(self, op: str, nodes: Sequence[fx.Node], shapes: Sequence[Dims], **attrs: Any) -> None:
        """Appends a kernel; attributes that are None are left out, as is a dtype of fp32."""
        if nodes and in_int8(nodes[0]):
            attrs["dtype"] = INT8
        kept = tuple(sorted((k, v) for k, v in attrs.items() if v is not None))
        # In a rewritten network a node says which of the captured one it is a part of.
        names = dict.fromkeys(n.meta.get("origin", n.name) for n in nodes)
        told = tuple(name for name in names if name is not None)
        self.kernels.append(Kernel(op, told, tuple(shapes), kept))

    def write(self, nodes: Sequence[fx.Node], layout: Layout, call: int) -> None:
        """Says that `nodes` (fused: all the same tensor) now hold a delegated result."""
        value = Value(call, inside=True, int8=in_int8(nodes[0]), own=layout)
        for node in nodes:
            self._values[node] = value
        self.absorbed.update(nodes[1:])

    def write_outside(self, node: fx.Node) -> None:
        """Says that `node` now holds the result of an op outside the delegate."""
        self._values[node] = Value(0, inside=False)
        self.left.add(node)

    def leave(self, source: fx.Node) -> None:
        """Makes `source` available outside the delegate, in the network's own order."""
        self.read(source, "nchw", self._values[source].call)

    def same(self, node: fx.Node, source: fx.Node) -> None:
        """Says that `node` is `source`: nothing runs."""
        self._values[node] = self._values[source]

    def _rule_of(self, node: fx.Node) -> Rule:
        # By name too: what torchao's ops are is known only once it is imported.
        return RULES.get(node.target) or RULES.get(str(node.target)) or RULES["outside"]

    def _flows(self, node: fx.Node) -> bool:
        """Whether `node` computes tensors from the network's input (not sizes, not constants)."""
        if not self.computed(node):
            return False
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return node.name in self._extents
        return any("Tensor" in str(result.type) for result in schema.returns)


def delegate_calls(graph: fx.Graph, left: set[fx.Node]) -> dict[fx.Node, int]:
    """Which delegate call each node runs in, when the nodes in `left` fall out of the delegate.

    Calls are numbered backwards from the output. A node runs in the latest call that it can, as the
    partitioner merges each node into the partition of its readers, starting from the last: only
    an op outside between them keeps two nodes apart.
    """
    calls: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        outside = node in left
        calls[node] = max(
            (calls[user] + (outside and user not in left) for user in node.users), default=0
        )
    return calls
