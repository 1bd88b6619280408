"""In-place operations → functional ones, where no other view of the tensor is alive.

`x.add_(y)` in an exported graph changes x for everyone who reads x later, views included. Where
only x itself is read later, `x' = x.add(y)` with later readers of x reading x' is the same. Where
an alias of x is read later, the operation stays as it is, and channel analysis, which has no rule
for it, pins what it touches.
"""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten

_RETURNS_ITS_INPUT = {
    # in eval mode these hand back the very tensor they were given; their schemas do not say so
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
}


def functionalise(graph: fx.Graph) -> None:
    """Rewrite `graph` so that in-place operations whose effect is local become functional."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    root: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        source = _aliased(node)
        root[node] = root.get(source, source) if source is not None else node
    for node in list(graph.nodes):
        functional = _functional(node)
        if functional is None:
            continue
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        here = position[node]
        older = [n for n in position if position[n] < here and root[n] is root[changed]]
        if any(position[user] > here for n in older if n is not changed for user in n.users):
            continue
        node.target = functional
        for user in [u for u in changed.users if position[u] > here]:
            user.replace_input_with(changed, node)
        root[node] = node
        for n in position:
            if position[n] > here:
                source = _aliased(n)
                root[n] = root[source] if source is not None else n


def _functional(node: fx.Node) -> torch._ops.OpOverload | None:
    """The functional twin of an in-place op, or None if the node is not one."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return None
    name = target._schema.name.split("::")[-1]
    if not (name.endswith("_") and not name.startswith("_") and target._schema.is_mutable):
        return None
    twin = getattr(aten, name[:-1], None)
    return getattr(twin, target._overloadname, None) if twin is not None else None


def _aliased(node: fx.Node) -> fx.Node | None:
    """The argument whose storage a node's result shares, if it does."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    source = node.args[0]
    if not isinstance(node.target, torch._ops.OpOverload):
        return source if getattr(node.target, "__name__", "") == "getitem" else None
    if node.target in _RETURNS_ITS_INPUT:
        return source
    returns = node.target._schema.returns
    return source if returns and returns[0].alias_info is not None else None
