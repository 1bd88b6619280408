"""Picking one of several fused projections → slicing it out before the reshape.

`qkv.reshape(B, N, 3, H, D).permute(2, 0, 3, 1, 4)[0]` holds the query; so does
`qkv[..., :H * D].reshape(B, N, H, D).permute(0, 2, 1, 3)`. In the first form all three must have
the same width, since they share a reshape; in the second each has its own. The graph is brought
into the second form, which computes the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from edgeprune.rewriting import call

aten = torch.ops.aten

_RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.unflatten.int)


@dataclass(frozen=True)
class _Step:
    """A movement between the reshape and the pick, once the picked dimension is gone."""

    op: Any
    argument: Any


@dataclass(frozen=True)
class _Trail:
    """How a picked dimension came from a reshape: there it is `dim`, and `steps` follow."""

    reshape: fx.Node
    dim: int
    steps: tuple[_Step, ...]


def unfuse(graph: fx.Graph) -> None:
    """Rewrite every pick of a dimension that a reshape split off (select, unbind) in `graph`."""
    for node in list(graph.nodes):
        pick = _picked(node)
        if pick is None:
            continue
        source, dim, index = pick
        trail = _trail(source, dim)
        run = None if trail is None else _split_dims(trail.reshape)
        if trail is None or run is None or trail.dim not in run[1]:
            continue
        if len(_open_dims(trail.reshape)) > 1 and trail.reshape.target is aten.unflatten.int:
            continue
        with graph.inserting_before(node):
            made = _rewritten(graph, trail, run, index)
        for new in _chain(made, trail.reshape.args[0]):
            new.meta |= {k: v for k, v in node.meta.items() if k not in ("val", "tensor_meta")}
        node.replace_all_uses_with(made)


def _picked(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """(source, dim, index) of a node that takes one index of a dimension."""
    if node.op != "call_function":
        return None
    if node.target is aten.select.int:
        source, dim, index = node.args
        return _pick(source, dim, index)
    whole = node.args[0] if node.args else None
    if not isinstance(whole, fx.Node) or node.target is not operator.getitem:
        return None
    if whole.target is aten.unbind.int:
        dim = whole.args[1] if len(whole.args) > 1 else whole.kwargs.get("dim", 0)
        return _pick(whole.args[0], dim, node.args[1])
    return None


def _pick(source: Any, dim: Any, index: Any) -> tuple[fx.Node, int, int] | None:
    if not (isinstance(source, fx.Node) and isinstance(dim, int) and isinstance(index, int)):
        return None
    shape = _shape(source)
    if shape is None or not isinstance(shape[dim], int):
        return None
    return source, dim % len(shape), index % shape[dim]


def _shape(node: fx.Node) -> list[Any] | None:
    value = node.meta.get("val")
    return list(value.shape) if isinstance(value, torch.Tensor) else None


# --- from the pick back to the reshape -----------------------------------------------------------


def _trail(node: fx.Node, dim: int) -> _Trail | None:
    steps: list[_Step] = []
    while node.target not in _RESHAPES:
        back = _BACK.get(node.target)
        source = node.args[0] if node.args else None
        if back is None or not isinstance(source, fx.Node) or _shape(source) is None:
            return None
        found = back(node, source, dim)
        if found is None:
            return None
        dim, step = found
        steps.append(step)
        node = source
    return _Trail(node, dim, tuple(reversed(steps)))


def _rank(node: fx.Node) -> int:
    return len(_shape(node) or [])


def _same(node: fx.Node, source: fx.Node, dim: int) -> tuple[int, _Step]:
    return dim, _Step(aten.contiguous.default, None)


def _permuted(order: Sequence[int], dim: int) -> tuple[int, _Step]:
    before = order[dim]
    rest = [d for d in order if d != before]
    return before, _Step(aten.permute.default, [d - (d > before) for d in rest])


def _permute(node: fx.Node, source: fx.Node, dim: int) -> tuple[int, _Step]:
    dims: Any = node.args[1]
    return _permuted([d % _rank(source) for d in dims], dim)


def _transpose(node: fx.Node, source: fx.Node, dim: int) -> tuple[int, _Step]:
    order = list(range(_rank(source)))
    a, b = (int(d) for d in node.args[1:3])  # type: ignore[arg-type]
    order[a], order[b] = order[b], order[a]
    return _permuted(order, dim)


def _unsqueeze(node: fx.Node, source: fx.Node, dim: int) -> tuple[int, _Step] | None:
    at = int(node.args[1]) % _rank(node)  # type: ignore[arg-type]
    if at == dim:
        return None
    return dim - (at < dim), _Step(aten.unsqueeze.default, at - (dim < at))


def _squeeze(node: fx.Node, source: fx.Node, dim: int) -> tuple[int, _Step] | None:
    at = int(node.args[1]) % _rank(source)  # type: ignore[arg-type]
    if _rank(node) == _rank(source):  # there was nothing to squeeze
        return dim, _Step(aten.contiguous.default, None)
    before = dim + (at <= dim)
    return before, _Step(aten.squeeze.dim, at - (before < at))


_BACK: dict[Any, Callable[[fx.Node, fx.Node, int], tuple[int, _Step] | None]] = {
    aten.contiguous.default: _same,
    aten.clone.default: _same,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.dim: _squeeze,
}


def _split_dims(reshape: fx.Node) -> tuple[int, list[int]] | None:
    """(old dimension, new dimensions) of a reshape that only splits one dimension of fixed size."""
    source = reshape.args[0]
    old, new = _shape(source) if isinstance(source, fx.Node) else None, _shape(reshape)
    if old is None or new is None:
        return None
    left = 0
    while left < min(len(old), len(new)) and _equal(old[left], new[left]):
        left += 1
    right = 0
    while right < min(len(old), len(new)) - left and _equal(old[-1 - right], new[-1 - right]):
        right += 1
    target = list(range(left, len(new) - right))
    sizes = [new[d] for d in target]
    if len(old) - left - right != 1 or len(target) < 2:
        return None
    if not all(isinstance(s, int) for s in [old[left], *sizes]) or math.prod(sizes) != old[left]:
        return None
    return left, target


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return str(a) == str(b)  # symbolic sizes: the same expression


# --- the second form -----------------------------------------------------------------------------


def _rewritten(graph: fx.Graph, trail: _Trail, run: tuple[int, list[int]], index: int) -> fx.Node:
    """slice → reshape → the steps, for one index of the picked dimension."""
    source = trail.reshape.args[0]
    assert isinstance(source, fx.Node)
    at, target = run
    new = _shape(trail.reshape)
    assert new is not None
    sizes = _size_arguments(trail.reshape, source)
    before = [new[d] for d in target if d < trail.dim]
    inside = math.prod(new[d] for d in target if d > trail.dim)
    x, dim = source, at
    if before:
        split = [math.prod(before), new[trail.dim] * inside]
        x = call(graph, aten.unflatten.int, x, at, split)
        dim = at + 1
    x = call(graph, aten.slice.Tensor, x, dim, index * inside, (index + 1) * inside)
    rest = [size for d, size in enumerate(sizes) if d != trail.dim]
    x = call(graph, aten.reshape.default, x, rest)
    for step in trail.steps:
        arguments = () if step.argument is None else (step.argument,)
        x = call(graph, step.op, x, *arguments)
    return x


def _size_arguments(reshape: fx.Node, source: fx.Node) -> list[Any]:
    """The reshape's sizes as arguments: numbers, or the nodes that compute them."""
    if reshape.target is not aten.unflatten.int:
        given: Any = reshape.args[1]
        shape = _shape(reshape) or []
        # only an open size needs to be left to be inferred
        return [
            size if given[d] == -1 and isinstance(size, int) else given[d]
            for d, size in enumerate(shape)
        ]
    return [-1 if d in _open_dims(reshape) else s for d, s in enumerate(_shape(reshape) or [])]


def _open_dims(node: fx.Node) -> list[int]:
    """The dimensions whose size depends on the batch."""
    return [d for d, size in enumerate(_shape(node) or []) if not isinstance(size, int)]


def _chain(last: fx.Node, source: Any) -> list[fx.Node]:
    """The nodes from `source` (left out) to `last`."""
    found = []
    while last is not source:
        found.append(last)
        (last,) = last.all_input_nodes[:1]
    return found
