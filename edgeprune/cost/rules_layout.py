"""What runs for ops that only move data: most of it nothing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import fx

from edgeprune.cost.rules_compute import argument
from edgeprune.cost.rules_outside import outside
from edgeprune.cost.walk import Dims, Walk, rule
from edgeprune.records import Extent

aten = torch.ops.aten

_MOST_CONCATENATED = 5


@rule(
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
)
def nothing(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    walk.same(node, source)


@rule(operator.getitem)
def item(walk: Walk, node: fx.Node) -> None:
    """One result of an op with several, all of which fall out of the delegate."""
    walk.write_outside(node)


@rule(
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten._unsafe_view.default,
)
def view(walk: Walk, node: fx.Node) -> None:
    """A new shape over the same memory, which must be in the network's own order."""
    source = walk.source(node)
    call = walk.call_for(node)
    walk.read(source, "nchw", call)
    walk.write([node], "nchw", call)


@rule(aten.permute.default, aten.transpose.int, aten.t.default)
def permute(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    rank = len(walk.dims(source))
    if node.target == aten.permute.default:
        perm = [int(d) % rank for d in argument(node, 1, ())]
    else:
        perm = list(range(rank))
        first, second = (int(argument(node, i, i - 1)) % rank for i in (1, 2))
        perm[first], perm[second] = second, first
    call = walk.call_for(node)
    walk.emit("transpose", [node], (walk.read(source, "nchw", call),), perm=tuple(perm))
    walk.write([node], "nchw", call)


@rule(aten.cat.default)
def cat(walk: Walk, node: fx.Node) -> None:
    """Two to five tensors at a time; more are concatenated in steps."""
    sources = [source for source in _list(node.args[0]) if walk.is_tensor(source)]
    if len(sources) < 2:
        outside(walk, node)
        return
    call = walk.call_for(node)
    images = all(len(walk.dims(source)) == 4 for source in sources)
    layout = walk.layout(walk.computed(node), call, converts=images)
    for source in walk.computed(node):
        walk.read(source, layout, call)
    axis = int(argument(node, 1, 0)) % len(walk.dims(node))
    shapes: list[Dims] = [walk.dims(source) for source in sources]
    name = layout if images else None
    while shapes:
        taken, shapes = shapes[:_MOST_CONCATENATED], shapes[_MOST_CONCATENATED:]
        walk.emit("cat", [node], taken, axis=axis, layout=name)
        if shapes:
            shapes.insert(0, _joined(taken, axis))
    walk.write([node], layout, call)


def _list(arg: object) -> list[fx.Node]:
    assert isinstance(arg, list | tuple)
    return list(arg)


def _joined(shapes: Sequence[Dims], axis: int) -> Dims:
    """The shape of several tensors side by side."""
    terms: dict[str, int | Fraction] = {}
    products: dict[tuple[str, str], int | Fraction] = {}
    for part in (shape[axis] for shape in shapes):
        for name, times in part.terms:
            terms[name] = terms.get(name, 0) + times
        for one, other, times in part.products:
            products[one, other] = products.get((one, other), 0) + times
    total = Extent(
        sum(shape[axis].fixed for shape in shapes),
        tuple(sorted(terms.items())),
        tuple((one, other, times) for (one, other), times in sorted(products.items())),
    )
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


@rule(aten.slice.Tensor)
def cut(walk: Walk, node: fx.Node) -> None:
    """A contiguous part; with a step it falls out of the delegate; the whole is nothing."""
    source = walk.source(node)
    if walk.dims(source) == walk.dims(node):
        walk.same(node, source)
        return
    if argument(node, 4, 1) != 1:
        outside(walk, node)
        return
    axis, call = int(argument(node, 1, 0)) % len(walk.dims(node)), walk.call_for(node)
    layout = walk.layout([source], call)
    shapes = (walk.read(source, layout, call), walk.dims(node))
    start = argument(node, 2, 0)
    begin = start if isinstance(start, int) and start >= 0 else 0
    name = layout if len(shapes[0]) == 4 else None
    walk.emit("slice", [node], shapes, axis=axis, start=begin, layout=name)
    walk.write([node], layout, call)


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(walk: Walk, node: fx.Node) -> None:
    """Padding with a constant; mirrored padding and cropping fall out of the delegate."""
    source, sides = walk.source(node), [int(p) for p in argument(node, 1, ())]
    constant = node.target == aten.constant_pad_nd.default or argument(node, 2, "constant") == (
        "constant"
    )
    if not constant or min(sides, default=0) < 0:
        outside(walk, node)
        return
    rank, call = len(walk.dims(node)), walk.call_for(node)
    before: list[int] = [0] * rank
    for i in range(len(sides) // 2):
        before[rank - 1 - i] = int(sides[2 * i])
    layout = walk.layout([source], call)
    shapes = (walk.read(source, layout, call), walk.dims(node))
    name = layout if rank == 4 else None
    walk.emit("pad", [node], shapes, before=tuple(before), layout=name)
    walk.write([node], layout, call)
