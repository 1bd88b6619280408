"""A view's source with the view replaced: what `x[:, 2:4] = y` makes of x, as a new tensor.

A function per view op; slices and selections become concatenations of what is before, the new
piece, and what is after.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from edgeprune.rewriting import call

aten = torch.ops.aten

Put = Callable[[fx.Graph, fx.Node, fx.Node], fx.Node]
_PUTS: dict[Any, Put] = {}
_END = sys.maxsize


def puts(*ops: Any) -> Callable[[Put], Put]:
    """Register how a view is put back; a second registration raises."""

    def register(function: Put) -> Put:
        for op in ops:
            if op in _PUTS:
                raise ValueError(f"{op} is already registered")
            _PUTS[op] = function
        return function

    return register


def can_put(view: fx.Node) -> bool:
    """Whether it is known how the source of a view is made from a new view."""
    if view.target is aten.slice.Tensor:
        return len(view.args) < 5 or bool(view.args[4] == 1)
    return view.target in _PUTS


def put(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    """The source of `view`, with `new` where the view was; at the graph's insertion point."""
    return _PUTS[view.target](graph, view, new)


@puts(aten.alias.default, aten.detach.default, aten.dropout.default)
def _same(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    return new


@puts(aten.slice.Tensor)
def _slice(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    given: list[Any] = [*view.args, *(None, 0, None, None)[len(view.args) :]]
    source, dim, start, end = given[:4]
    old, length = source.meta["val"].size(dim), new.meta["val"].size(dim)
    if isinstance(start, int) and start in (0, -_END) and end in (None, _END):
        return new
    if not isinstance(old, int):  # the batch, of which all is taken
        return new
    first = range(old)[start:end].start
    return _between(graph, source, dim, (first, first + length), new)


@puts(aten.select.int)
def _select(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    source, dim, index = view.args
    assert isinstance(source, fx.Node)
    assert isinstance(dim, int)
    assert isinstance(index, int)
    dim %= source.meta["val"].dim()
    index %= source.meta["val"].size(dim)
    piece = call(graph, aten.unsqueeze.default, new, dim, like=view)
    return _between(graph, source, dim, (index, index + 1), piece)


def _between(
    graph: fx.Graph, source: fx.Node, dim: int, at: tuple[int, int], new: fx.Node
) -> fx.Node:
    """The source with positions at[0]..at[1] along `dim` replaced."""
    first, last = at
    pieces = [new]
    if first > 0:
        pieces.insert(0, call(graph, aten.slice.Tensor, source, dim, 0, first, like=new))
    if last < source.meta["val"].size(dim):
        pieces.append(call(graph, aten.slice.Tensor, source, dim, last, _END, like=new))
    if len(pieces) == 1:
        return new
    return call(graph, aten.cat.default, pieces, dim, like=new)


@puts(aten.permute.default)
def _permute(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    dims: Any = view.args[1]
    order = [d % len(dims) for d in dims]
    back = [order.index(d) for d in range(len(order))]
    return call(graph, aten.permute.default, new, back, like=view)


@puts(aten.transpose.int)
def _transpose(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    return call(graph, aten.transpose.int, new, *view.args[1:3], like=view)


@puts(aten.unsqueeze.default)
def _unsqueeze(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    dim = view.args[1]
    assert isinstance(dim, int)
    at = dim % new.meta["val"].dim()
    return call(graph, aten.select.int, new, at, 0, like=view)


@puts(operator.getitem)
def _getitem(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    """One of the pieces that a split, a chunk or an unbind made."""
    whole, index = view.args
    assert isinstance(whole, fx.Node)
    assert isinstance(index, int)
    pieces = [
        new if i == index else call(graph, operator.getitem, whole, i, like=view)
        for i in range(len(whole.meta["val"]))
    ]
    together: Any = _TOGETHER[whole.target]  # type: ignore[index]
    return call(graph, together, pieces, _split_dim(whole), like=view)


def _split_dim(node: fx.Node) -> int:
    at = 1 if node.target is aten.unbind.int else 2
    dim = node.args[at] if len(node.args) > at else node.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    return dim


@puts(
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.unbind.int,
)
def _pieces(graph: fx.Graph, view: fx.Node, new: fx.Node) -> fx.Node:
    """What a piece is put back into is already the source."""
    return new


_TOGETHER = {
    aten.split.Tensor: aten.cat.default,
    aten.split.sizes: aten.cat.default,
    aten.split_with_sizes.default: aten.cat.default,
    aten.chunk.default: aten.cat.default,
    aten.unbind.int: aten.stack.default,
}
