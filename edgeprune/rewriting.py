"""New nodes in a captured graph, with the values that say what shapes they have."""

from __future__ import annotations

from typing import Any

from torch import fx


def call(graph: fx.Graph, op: Any, *args: Any, like: fx.Node | None = None) -> fx.Node:
    """A node that calls `op`, at the graph's insertion point; it says it comes from where `like`
    comes from."""
    node = graph.call_function(op, args)
    if like is not None:
        node.meta |= {k: v for k, v in like.meta.items() if k not in ("val", "tensor_meta")}
    node.meta["val"] = op(*fx.node.map_arg(args, lambda n: n.meta["val"]))
    return node
