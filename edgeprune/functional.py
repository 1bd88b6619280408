"""In-place operations → functional ones.

`x.add_(y)` in an exported graph changes x for everyone who reads x later, views included. Where
only x itself is read later, `x' = x.add(y)` with later readers of x reading x' is the same. Where
x is a view of something that is read later (`z[:, 2:4] = 0`), the new z is put together from the
new piece and the old ones, and every view of it that is read later is taken again. What cannot be
put together stays as it is, and channel analysis, which has no rule for it, pins what it touches.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from edgeprune.pieces import can_put, put
from edgeprune.rewriting import call

aten = torch.ops.aten

_RETURNS_ITS_INPUT = {
    # in eval mode these hand back the very tensor they were given; their schemas do not say so
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
}
_MADE_FROM_SIZES = {
    # only shape, type and device of their argument matter
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.sym_size.int,
}


def functionalise(graph: fx.Graph) -> None:
    """Rewrite `graph` so that in-place operations become functional, as far as that is known."""
    sharing = _Sharing(graph)
    for node in list(graph.nodes):
        functional = _functional(node)
        if functional is None:
            continue
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        others = sharing.read_later(changed, node)
        if not others:
            _retarget(node, functional)
            sharing.replaced(changed, node)
            continue
        views = _views(changed)
        if all(map(can_put, views)) and _depends(node):
            _retarget(node, functional)
            _put_back(graph, node, views, others)
            sharing = _Sharing(graph)


def _retarget(node: fx.Node, functional: torch._ops.OpOverload) -> None:
    """Call `functional` in the node's place; `copy`, which knows no gradient, as what it gives: the
    source in the shape and type of what it overwrites, in memory of its own."""
    node.target = functional
    if functional is not aten.copy.default:
        return
    written, source = node.args[:2]
    assert isinstance(written, fx.Node)
    assert isinstance(source, fx.Node)
    with node.graph.inserting_before(node):
        full = call(node.graph, aten.expand_as.default, source, written, like=node)
        if source.meta["val"].dtype != written.meta["val"].dtype:
            dtype = written.meta["val"].dtype
            full = call(node.graph, aten.to.dtype, full, dtype, like=node)
    node.target, node.args, node.kwargs = aten.clone.default, (full,), {}


class _Sharing:
    """Which nodes share storage, and what is read after a place."""

    def __init__(self, graph: fx.Graph) -> None:
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.root: dict[fx.Node, fx.Node] = {}
        for node in self.position:
            self._find_root(node)

    def _find_root(self, node: fx.Node) -> None:
        source = _aliased(node)
        self.root[node] = node if source is None else self.root.get(source, source)

    def later(self, node: fx.Node, here: fx.Node) -> list[fx.Node]:
        """The readers of a node after `here`."""
        return [user for user in node.users if self.position[user] > self.position[here]]

    def read_later(self, changed: fx.Node, here: fx.Node) -> list[fx.Node]:
        """Nodes before `here` other than `changed` that share its storage and are read after it."""
        shared = [
            node
            for node, at in self.position.items()
            if at < self.position[here]
            and node is not changed
            and self.root[node] is self.root[changed]
        ]
        return [node for node in shared if self.later(node, here)]

    def replaced(self, changed: fx.Node, node: fx.Node) -> None:
        """From `node` on, readers of `changed` read `node`."""
        for user in self.later(changed, node):
            user.replace_input_with(changed, node)
        self.root[node] = node
        for after, at in self.position.items():
            if at > self.position[node]:
                self._find_root(after)


def _put_back(graph: fx.Graph, node: fx.Node, views: list[fx.Node], others: list[fx.Node]) -> None:
    """`node` is now the new value of the innermost of `views`; from there on, whoever read it, or
    any of `others`, reads what is put together from it."""
    changed = node.args[0]
    assert isinstance(changed, fx.Node)
    order = {n: i for i, n in enumerate(graph.nodes)}
    readers = {
        old: [user for user in old.users if order[user] > order[node]]
        for old in [changed, node, *others]
    }
    new: dict[fx.Node, fx.Node] = {}

    def again(old: fx.Node) -> fx.Node:
        if old not in new:
            new[old] = call(graph, old.target, again(_source(old)), *old.args[1:], like=old)
            new[old].kwargs = old.kwargs
        return new[old]

    with graph.inserting_before(node.next):
        whole = node
        for view in views:
            whole = put(graph, view, whole)
        new[_source(views[-1]) if views else changed] = whole
        for old, users in readers.items():
            for user in users:
                user.replace_input_with(old, again(changed if old is node else old))


def _views(node: fx.Node) -> list[fx.Node]:
    """The views between a node and the tensor whose storage it shares, innermost first."""
    found = []
    while _aliased(node) is not None:
        found.append(node)
        node = _source(node)
    return found


def _source(view: fx.Node) -> fx.Node:
    source = _aliased(view)
    assert source is not None
    return source


def _depends(node: fx.Node) -> bool:
    """Whether a value depends on the model's inputs or parameters; tables that are filled in piece
    by piece do not, and have no channels to speak of."""
    waiting, seen = [node], {node}
    while waiting:
        found = waiting.pop()
        if found.op in ("placeholder", "get_attr") and "lifted_tensor" not in str(found.target):
            return True
        if found.target in _MADE_FROM_SIZES:
            continue
        new = [n for n in found.all_input_nodes if n not in seen]
        seen.update(new)
        waiting += new
    return False


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
        return source if node.target is operator.getitem else None
    if node.target in _RETURNS_ITS_INPUT:
        return source
    returns: Any = node.target._schema.returns
    return source if returns and returns[0].alias_info is not None else None
