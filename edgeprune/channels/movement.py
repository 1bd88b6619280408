"""Ops that only move elements: the op itself is run on the ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule, spread
from edgeprune.channels.elementwise import join
from edgeprune.channels.layout import tidy
from edgeprune.channels.reshape import reshaped
from edgeprune.graph import open_dims


@rule(aten.view.default, aten.reshape.default, aten._unsafe_view.default)
def view(flow: Flow, x: Value, size: Sequence[int]) -> Value:
    """Any reshape; splitting and merging channels is what `reshape.py` is about."""
    made = reshaped(flow, x, _resolve(x.shape, size))
    given: Any = flow.node.args[1]
    inferred = [d for d, s in enumerate(given) if isinstance(s, int) and s == -1]
    if open_dims(flow.node) & set(inferred):
        # a size that is computed from the batch cannot be left to be inferred as well
        for d, s in enumerate(given):
            if not isinstance(s, int):
                pin_along(flow, made, d, "counted together with the batch")
    return made


def pin_along(flow: Flow, x: Value, dim: int, reason: str) -> None:
    """Pin what varies along one dimension: channels, or the parts that it tells apart."""
    for label in x.varying(dim):
        split = label.split
        if split is None:
            flow.pin(label.ids, reason)
        elif split.axis == dim:
            flow.pin(label.ids, reason, within=True)
        else:
            flow.pin(split.owners, reason)


@rule(aten.flatten.using_ints)
def flatten(flow: Flow, x: Value, start: int = 0, end: int = -1) -> Value:
    rank = len(x.shape)
    start, end = start % rank, end % rank
    return reshaped(
        flow, x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    )


@rule(aten.unflatten.int)
def unflatten(flow: Flow, x: Value, dim: int, sizes: Sequence[int]) -> Value:
    dim %= len(x.shape)
    inner = _resolve((x.shape[dim],), sizes)
    return reshaped(flow, x, (*x.shape[:dim], *inner, *x.shape[dim + 1 :]))


@rule(aten.unsqueeze.default)
def unsqueeze(flow: Flow, x: Value, dim: int) -> Value:
    dim %= len(x.shape) + 1
    return reshaped(flow, x, (*x.shape[:dim], 1, *x.shape[dim:]))


@rule(aten.ravel.default)
def ravel(flow: Flow, x: Value) -> Value:
    return reshaped(flow, x, (math.prod(x.shape),))


@rule(aten.tril.default, aten.triu.default)
def triangle(flow: Flow, x: Value, diagonal: int = 0) -> Value:
    """Half of a matrix; where that is one of channels they are counted, and stay."""
    for d in (-2, -1):
        pin_along(flow, x, len(x.shape) + d, "counted along a diagonal")
    return Value(x.shape, x.labels)


@rule(aten.squeeze.default)
def squeeze_all(flow: Flow, x: Value) -> Value:
    """The batch, one here, stays where it is open."""
    rest = tuple(s for s in x.shape if s != 1)
    open_batch = len(flow.node.meta["shape"]) > len(rest) and x.shape[:1] == (1,)
    return reshaped(flow, x, (1, *rest) if open_batch else rest)


@rule(aten.view_as.default, aten.reshape_as.default)
def view_as(flow: Flow, x: Value, other: Value) -> Value:
    """The other tensor's channels must be as many, so they are the same ones."""
    made = reshaped(flow, x, other.shape)
    return join(flow, [made, replace(other, parameter=None)], made.shape)


@rule(aten.squeeze.dim, aten.squeeze.dims)
def squeeze(flow: Flow, x: Value, dims: int | Sequence[int]) -> Value:
    wanted = {d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims)}
    return reshaped(
        flow, x, tuple(s for d, s in enumerate(x.shape) if not (d in wanted and s == 1))
    )


def carried(label: Label, op: Callable[[Tensor], Tensor], axis: Callable[[int], int]) -> Label:
    """A label after an op that moves its elements, but leaves the order within parts alone."""
    split = label.split
    if split is None:
        return Label(op(label.ids), label.layout)
    return Label(op(label.ids), split.moved(op, axis(split.axis)))


@rule(aten.permute.default)
def permute(flow: Flow, x: Value, dims: Sequence[int]) -> Value:
    order = [d % len(x.shape) for d in dims]
    labels = [carried(label, lambda t: t.permute(order), order.index) for label in x.labels]
    return labelled(tuple(x.shape[d] for d in order), labels)


@rule(aten.transpose.int)
def transpose(flow: Flow, x: Value, a: int, b: int) -> Value:
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return permute(flow, x, order)


@rule(aten.t.default, aten.numpy_T.default)
def turn(flow: Flow, x: Value) -> Value:
    return permute(flow, x, list(reversed(range(len(x.shape)))))


@rule(aten.mT.default, aten.adjoint.default)
def turn_matrix(flow: Flow, x: Value) -> Value:
    return transpose(flow, x, -2, -1)


@rule(aten.swapaxes.default, aten.swapdims.default)
def swap(flow: Flow, x: Value, a: int, b: int) -> Value:
    return transpose(flow, x, a, b)


@rule(aten.movedim.int, aten.movedim.intlist)
def movedim(flow: Flow, x: Value, source: Any, destination: Any) -> Value:
    # sizes that tell the dimensions apart show where each of them goes
    names = torch.empty(tuple(range(2, len(x.shape) + 2)), device="meta")
    return permute(flow, x, [s - 2 for s in torch.movedim(names, source, destination).shape])


@rule(aten.expand.default)
def expand(flow: Flow, x: Value, size: Sequence[int], **kwargs: Any) -> Value:
    offset = len(size) - len(x.shape)
    shape = tuple(x.shape[d - offset] if s == -1 else int(s) for d, s in enumerate(size))
    labels = [carried(label, lambda t: t.expand(shape), lambda d: d + offset) for label in x.labels]
    if not labels:  # a mask over heads, say: what is the same everywhere can have any size
        given: Any = flow.node.args[1]
        for d, count in enumerate(shape):
            is_new = d < offset or x.shape[d - offset] == 1
            if count > 1 and isinstance(given[d], int) and is_new:
                labels.append(Label(spread(flow.fresh(count, f"dim {d}"), d, shape)))
    return labelled(shape, labels)


@rule(aten.expand_as.default)
def expand_as(flow: Flow, x: Value, other: Value) -> Value:
    """The other tensor's channels, where it has any there, are the same ones; along dimensions of
    size 1 they are whatever the other's are."""
    return join(flow, [x, replace(other, parameter=None)], other.shape)


@rule(aten.repeat.default)
def repeat(flow: Flow, x: Value, repeats: Sequence[int]) -> Value:
    """Positions and parts may be repeated; channels inside of parts, or in an order of their own,
    are tied to their original order first."""
    offset = len(repeats) - len(x.shape)
    shape = tuple((1 if d < offset else x.shape[d - offset]) * r for d, r in enumerate(repeats))
    repeated = {d - offset for d, r in enumerate(repeats) if r != 1}
    labels = [
        carried(
            _unordered(flow, label, repeated),
            lambda t: tidy(t.repeat(*repeats)),
            lambda d: d + offset,
        )
        for label in x.labels
    ]
    return labelled(shape, labels)


@rule(aten.tile.default)
def tile(flow: Flow, x: Value, dims: Sequence[int]) -> Value:
    """As `repeat`, with ones in front where there are too few."""
    return repeat(flow, x, [1] * (len(x.shape) - len(dims)) + [int(d) for d in dims])


@rule(aten.repeat_interleave.self_int)
def repeat_interleave(
    flow: Flow, x: Value, repeats: int, dim: int | None = None, **kwargs: Any
) -> Value:
    if dim is None:
        x, dim = reshaped(flow, x, (math.prod(x.shape),)), 0
    at = dim % len(x.shape)
    labels = [
        carried(
            _unordered(flow, label, {at}),
            lambda t: tidy(t.repeat_interleave(repeats, at)),
            lambda d: d,
        )
        for label in x.labels
    ]
    return labelled((*x.shape[:at], x.shape[at] * repeats, *x.shape[at + 1 :]), labels)


def _unordered(flow: Flow, label: Label, touched: set[int]) -> Label:
    """The label, settled if the op touches dimensions in which it has an order of its own."""
    split = label.split
    ordered = label.dims if split is None else {split.axis}
    return flow.settle(label) if label.layout is not None and ordered & touched else label


@rule(aten.flip.default)
def flip(flow: Flow, x: Value, dims: Sequence[int]) -> Value:
    touched = {d % len(x.shape) for d in dims}
    labels = [
        carried(_unordered(flow, label, touched), lambda t: tidy(t.flip(list(dims))), lambda d: d)
        for label in x.labels
    ]
    return labelled(x.shape, labels)


@rule(aten.roll.default)
def roll(flow: Flow, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Rolling positions moves nothing; rolling channels by a constant pins them."""
    rolled = {d % len(x.shape) for d in dims} or set(range(len(x.shape)))
    for label in x.labels:
        if label.dims & rolled:
            flow.pin(label.ids, "channels are rolled by a fixed distance")
    return Value(x.shape, x.labels)


@rule(aten.unfold.default)
def unfold(flow: Flow, x: Value, dim: int, size: int, step: int) -> Value:
    """Sliding windows over positions: the window is a new last dimension."""
    at = dim % len(x.shape)
    labels = []
    for label in x.labels:
        if at in label.dims:
            flow.pin(label.ids, "channels are taken in sliding windows")
            label = flow.settle(label)
        labels.append(carried(label, lambda t: tidy(t.unfold(at, size, step)), lambda d: d))
    count = (x.shape[at] - size) // step + 1
    return labelled((*x.shape[:at], count, *x.shape[at + 1 :], size), labels)


@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
def channel_shuffle(flow: Flow, x: Value, groups: int) -> Value:
    """(N, g k, *): the parts' first channels, then their second ones, … (Zhang et al. 2018)."""
    n, c, *rest = x.shape
    parts = reshaped(flow, x, (n, groups, c // groups, *rest))
    return reshaped(flow, transpose(flow, parts, 1, 2), x.shape)


@rule(aten.index_select.default)
def index_select(flow: Flow, x: Value, dim: int, index: Value) -> Value:
    return indexed(flow, x, [None] * (dim % len(x.shape)) + [index])


@rule(aten.index.Tensor)
def indexed(flow: Flow, x: Value, indices: Sequence[Value | None]) -> Value:
    """Indexing by tables: indexed dimensions keep their positions, the others pass."""
    touched = {d for d, index in enumerate(indices) if index is not None}
    for index in indices:
        if index is not None:
            flow.pin_all(index, "used as an index")
    tables = [None if i is None else torch.zeros(i.shape, dtype=torch.int64) for i in indices]
    index_rank = len(torch.broadcast_shapes(*(t.shape for t in tables if t is not None)))
    adjacent = max(touched) - min(touched) + 1 == len(touched)
    labels = []
    for label in x.labels:
        if label.dims & touched:
            flow.pin(label.ids, "positions are looked up by number")
        else:
            labels.append(
                carried(
                    label,
                    lambda t: tidy(aten.index.Tensor(t, tables)),
                    lambda d: _place(d, sorted(touched), index_rank, adjacent),
                )
            )
    shape = tuple(
        aten.index.Tensor(
            torch.empty(x.shape, device="meta"),
            [None if t is None else t.to("meta") for t in tables],
        ).shape
    )
    return labelled(shape, labels)


def _place(dim: int, touched: list[int], index_rank: int, adjacent: bool) -> int:
    """Where a dimension that is not indexed ends up: the index's own come first, or in place."""
    before = sum(t < dim for t in touched)
    in_front = not adjacent or dim > touched[0]
    return dim - before + (index_rank if in_front else 0)


def _resolve(shape: Shape, size: Sequence[int]) -> Shape:
    known = math.prod(s for s in size if s != -1)
    return tuple(math.prod(shape) // max(known, 1) if s == -1 else int(s) for s in size)
