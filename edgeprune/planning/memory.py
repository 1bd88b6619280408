"""Which activations live at the same time: what the peak of a network's memory is made of.

A tensor lives from the op that makes it to the last one that reads it; views and in-place ops share
their input's memory, and what a kernel fuses is never stored. The peak is what no allocator can go
below; a runtime's own workspace comes on top.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from torch import fx

from edgeprune.records import Block, Extent, Graph, Kernel, Widths

_BYTES = 4


@dataclass(frozen=True)
class Tensor:
    """A stored activation (fp32, batch 1), and the keys of the blocks that it vanishes with."""

    dims: tuple[Extent, ...]
    blocks: tuple[str, ...] = ()

    def bytes_at(self, widths: Widths) -> int:
        """Its size under `widths`."""
        if any(widths.get(key, 1) == 0 for key in self.blocks):
            return 0
        return _BYTES * prod(extent.at(widths) for extent in self.dims)


Moment = tuple[Tensor, ...]
"""All tensors that live while one op runs."""


def moments(
    graph: Graph,
    extents: Mapping[str, tuple[Extent, ...]],
    kernels: Sequence[Kernel],
    blocks: Sequence[Block] = (),
) -> tuple[Moment, ...]:
    """The tensors alive at each op of `graph`, in order of execution; equal moments once."""
    fused = {name for kernel in kernels for name in kernel.nodes[:-1]}
    inside = {block.key: set(block.nodes) for block in blocks}
    nodes = list(graph.program.graph.nodes)
    owner: dict[fx.Node, fx.Node] = {}
    dies: dict[fx.Node, int] = {}
    born: dict[fx.Node, int] = {}
    for i, node in enumerate(nodes):
        sources = [owner[n] for n in node.all_input_nodes if n in owner]
        for source in sources:
            dies[source] = i
        if node.name not in extents or node.op not in ("placeholder", "call_function"):
            continue
        if node.op == "call_function" and sources and _shares(node):
            owner[node] = sources[0]
        elif node.name in fused:
            owner[node] = node  # readers inside of the kernel still need what it reads
        else:
            owner[node] = node
            born[node] = i
    stored = {
        node: Tensor(
            extents[node.name], tuple(key for key, names in inside.items() if node.name in names)
        )
        for node in born
    }
    found: dict[Moment, None] = {}
    for i in sorted(set(born.values())):
        alive = tuple(t for node, t in stored.items() if born[node] <= i <= dies.get(node, i))
        found[alive] = None
    return tuple(found)


def peak_bytes(moments: Sequence[Moment], widths: Widths) -> int:
    """The most memory that activations take at one time under `widths`."""
    return max((sum(t.bytes_at(widths) for t in moment) for moment in moments), default=0)


def _shares(node: fx.Node) -> bool:
    """Whether a node's result lies in its input's memory."""
    if node.target is operator.getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    name = str(schema.name)
    return name == "aten::dropout" or any(r.alias_info is not None for r in schema.returns)
