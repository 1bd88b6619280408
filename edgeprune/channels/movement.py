"""Ops that only move elements: the op itself is run on the ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule, spread, tidy
from edgeprune.channels.elementwise import join
from edgeprune.channels.layout import Layout, Plain, Split, chain
from edgeprune.channels.reshape import reshaped


@rule(aten.view.default, aten.reshape.default, aten._unsafe_view.default)
def view(flow: Flow, x: Value, size: Sequence[int]) -> Value:
    """Any reshape; splitting and merging channels is what `reshape.py` is about."""
    return reshaped(flow, x, _resolve(x.shape, size))


@rule(aten.flatten.using_ints)
def flatten(flow: Flow, x: Value, start: int = 0, end: int = -1) -> Value:
    rank = len(x.shape)
    start, end = start % rank, end % rank
    return reshaped(
        flow, x, (*x.shape[:start], _prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
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


@rule(aten.squeeze.default)
def squeeze_all(flow: Flow, x: Value) -> Value:
    return reshaped(flow, x, tuple(s for s in x.shape if s != 1))


@rule(aten.squeeze.dim, aten.squeeze.dims)
def squeeze(flow: Flow, x: Value, dims: int | Sequence[int]) -> Value:
    wanted = {d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims)}
    return reshaped(
        flow, x, tuple(s for d, s in enumerate(x.shape) if not (d in wanted and s == 1))
    )


@rule(aten.permute.default)
def permute(flow: Flow, x: Value, dims: Sequence[int]) -> Value:
    order = [d % len(x.shape) for d in dims]
    labels = [
        Label(label.ids.permute(order), _renamed(label.layout, order.index)) for label in x.labels
    ]
    return labelled(tuple(x.shape[d] for d in order), labels)


@rule(aten.transpose.int)
def transpose(flow: Flow, x: Value, a: int, b: int) -> Value:
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return permute(flow, x, order)


@rule(aten.t.default, aten.numpy_T.default)
def turn(flow: Flow, x: Value) -> Value:
    return permute(flow, x, list(reversed(range(len(x.shape)))))


@rule(aten.swapaxes.default, aten.swapdims.default)
def swap(flow: Flow, x: Value, a: int, b: int) -> Value:
    return transpose(flow, x, a, b)


@rule(aten.movedim.int, aten.movedim.intlist)
def movedim(flow: Flow, x: Value, source: Any, destination: Any) -> Value:
    probe = torch.arange(len(x.shape))
    names = torch.empty(tuple(range(2, len(x.shape) + 2)), device="meta")
    moved = torch.movedim(names, source, destination)
    return permute(flow, x, [int(probe[s - 2]) for s in moved.shape])


@rule(aten.expand.default)
def expand(flow: Flow, x: Value, size: Sequence[int], **kwargs: Any) -> Value:
    offset = len(size) - len(x.shape)
    shape = tuple(x.shape[d - offset] if s == -1 else int(s) for d, s in enumerate(size))
    labels = [
        Label(label.ids.expand(shape), _renamed(label.layout, lambda d: d + offset))
        for label in x.labels
    ]
    return labelled(shape, labels)


@rule(aten.expand_as.default)
def expand_as(flow: Flow, x: Value, other: Value) -> Value:
    return expand(flow, x, other.shape)


@rule(aten.repeat.default)
def repeat(flow: Flow, x: Value, repeats: Sequence[int]) -> Value:
    offset = len(repeats) - len(x.shape)
    shape = tuple((1 if d < offset else x.shape[d - offset]) * r for d, r in enumerate(repeats))
    labels = [Label(tidy(flow.settle(label).ids.repeat(*repeats))) for label in x.labels]
    return labelled(shape, labels)


@rule(aten.repeat_interleave.self_int)
def repeat_interleave(
    flow: Flow, x: Value, repeats: int, dim: int | None = None, **kwargs: Any
) -> Value:
    labels = [
        Label(tidy(flow.settle(label).ids.repeat_interleave(repeats, dim))) for label in x.labels
    ]
    return labelled(flow.node.meta["shape"] if dim is None else _scaled(x, dim, repeats), labels)


@rule(aten.flip.default)
def flip(flow: Flow, x: Value, dims: Sequence[int]) -> Value:
    return labelled(x.shape, [Label(tidy(flow.settle(e).ids.flip(list(dims)))) for e in x.labels])


@rule(aten.roll.default)
def roll(flow: Flow, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Rolling positions moves nothing; rolling channels by a constant pins them."""
    rolled = {d % len(x.shape) for d in dims} or set(range(len(x.shape)))
    for label in x.labels:
        if label.dims & rolled:
            flow.pin(label.ids, "channels are rolled by a fixed distance")
    return x if not x.parameter else replace(x, parameter=None)


@rule(aten.slice.Tensor)
def slice_(
    flow: Flow,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """Positions start..end along `dim`; a step over channels pins them."""
    dim %= len(x.shape)
    positions = range(x.shape[dim])[start:end:step]
    if step != 1:
        for label in x.varying(dim):
            flow.pin(label.ids, "channels are taken in steps")
        shape = (*x.shape[:dim], len(positions), *x.shape[dim + 1 :])
        labels = [
            Label(tidy(e.ids[_index(dim, slice(start, end, step))]))
            if dim in e.dims
            else replace(e, ids=_resized(e.ids, dim, len(positions)))
            for e in x.labels
        ]
        return labelled(shape, labels)
    return cut(flow, x, dim, positions.start, positions.stop)


@rule(aten.narrow.default)
def narrow(flow: Flow, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(flow, x, dim, start, start + length)


@rule(aten.select.int)
def select(flow: Flow, x: Value, dim: int, index: int) -> Value:
    """One position along `dim`: a part of a split, or a channel (which is then pinned)."""
    dim %= len(x.shape)
    index %= max(x.shape[dim], 1)
    labels = []
    for label in x.labels:
        ids = label.ids.select(dim, index)
        layout = label.layout
        if dim in label.dims:
            if isinstance(layout, Split) and layout.axes[:1] == (dim,) and len(layout.axes) > 1:
                share = len(layout.parts) // x.shape[dim]
                layout = Split(
                    layout.axes[1:], layout.axis, layout.parts[index * share : (index + 1) * share]
                )
            else:
                label = flow.settle(label)
                layout = None
                if label.dims == {dim}:
                    flow.pin(label.ids.select(dim, index), "a single channel is selected")
        labels.append(Label(ids, _renamed(layout, lambda d: d - (d > dim))))
    return labelled((*x.shape[:dim], *x.shape[dim + 1 :]), labels)


@rule(aten.unbind.int)
def unbind(flow: Flow, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(select(flow, x, dim, i) for i in range(x.shape[dim]))


@rule(aten.split.Tensor)
def split(flow: Flow, x: Value, size: int, dim: int = 0) -> tuple[Value, ...]:
    length = x.shape[dim]
    return split_with_sizes(flow, x, [min(size, length - at) for at in range(0, length, size)], dim)


@rule(aten.split_with_sizes.default, aten.split.sizes)
def split_with_sizes(flow: Flow, x: Value, sizes: Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    dim %= len(x.shape)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(cut(flow, x, dim, at, at + size))
        at += size
    return tuple(pieces)


@rule(aten.chunk.default)
def chunk(flow: Flow, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return split(flow, x, -(-x.shape[dim] // chunks), dim)


def cut(flow: Flow, x: Value, dim: int, start: int, end: int) -> Value:
    """Positions start..end of a value along `dim`."""
    shape = (*x.shape[:dim], end - start, *x.shape[dim + 1 :])
    labels = []
    for label in x.labels:
        if dim not in label.dims:
            labels.append(replace(label, ids=_resized(label.ids, dim, end - start)))
            continue
        layout = label.layout
        if isinstance(layout, Layout):
            layout = layout.cut(start, end, flow.unite, flow.equal_counts)
            layout = None if isinstance(layout, Plain) else layout
        elif layout is not None:
            label, layout = flow.settle(label), None
        labels.append(Label(tidy(label.ids.narrow(dim, start, end - start)), layout))
    return labelled(shape, labels)


@rule(aten.cat.default, aten.concat.default)
def cat(flow: Flow, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Along `dim` the ids follow each other; along other dimensions they are united."""
    tensors = [t for t in tensors if t.shape != (0,)]
    dim %= len(tensors[0].shape)
    shape = list(tensors[0].shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    out: Shape = tuple(shape)
    thin = tuple(1 if d == dim else s for d, s in enumerate(out))
    across = [
        replace(
            t,
            shape=thin,
            labels=tuple(
                replace(e, ids=e.ids.narrow(dim, 0, 1)) for e in t.labels if dim not in e.dims
            ),
        )
        for t in tensors
    ]
    labels = [replace(e, ids=e.ids.expand(out)) for e in join(flow, across, thin).labels]
    vectors, layouts = [], []
    for t in tensors:
        varying = [e for e in t.varying(dim) if e.dims == {dim}]
        layout = varying[0].layout if varying else None
        vector, _ = flow.contract(t, dim, "several kinds of channels are concatenated")
        vector = torch.zeros(t.shape[dim], dtype=torch.int64) if vector is None else vector
        vectors.append(vector)
        layouts.append(layout if isinstance(layout, Layout) else Plain(vector))
    if any(bool(v.any()) for v in vectors):
        order = chain(layouts)
        labels.append(
            Label(spread(torch.cat(vectors), dim, out), None if isinstance(order, Plain) else order)
        )
    return labelled(out, labels)


@rule(aten.stack.default)
def stack(flow: Flow, tensors: Sequence[Value], dim: int = 0) -> Value:
    return cat(flow, [unsqueeze(flow, t, dim) for t in tensors], dim)


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(
    flow: Flow, x: Value, padding: Sequence[int], mode: Any = "constant", value: float | None = None
) -> Value:
    """Zero padding makes new channels; padding with anything else pins what is beside it."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    rank = len(x.shape)
    for i in range(len(padding) // 2):
        x = _pad_one(
            flow,
            x,
            rank - 1 - i,
            (padding[2 * i], padding[2 * i + 1]),
            mode == "constant" and not value,
        )
    return x


def _pad_one(flow: Flow, x: Value, dim: int, amount: tuple[int, int], zeros: bool) -> Value:
    before, after = amount
    if not before and not after:
        return x
    size = x.shape[dim] + before + after
    shape = (*x.shape[:dim], size, *x.shape[dim + 1 :])
    labels = []
    for label in x.labels:
        if dim not in label.dims:
            labels.append(replace(label, ids=_resized(label.ids, dim, size)))
            continue
        label = flow.settle(label)
        vector = label.along(dim)
        if label.dims != {dim}:
            flow.unite(label.ids, spread(vector, dim, x.shape))
        if not zeros or before < 0 or after < 0:
            flow.pin(vector, "channels are padded with something other than zeros")
            ids = torch.zeros(size, dtype=torch.int64)
        else:
            ids = torch.cat(
                [flow.fresh(before, f"{dim} before"), vector, flow.fresh(after, f"{dim} after")]
            )
        labels.append(Label(spread(ids, dim, shape)))
    return labelled(shape, labels)


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
    labels = []
    for label in x.labels:
        if label.dims & touched:
            flow.pin(label.ids, "positions are looked up by number")
        else:
            picked = aten.index.Tensor(flow.settle(label).ids, tables)
            labels.append(Label(tidy(picked)))
    shape = tuple(
        aten.index.Tensor(
            torch.empty(x.shape, device="meta"),
            [None if t is None else t.to("meta") for t in tables],
        ).shape
    )
    return labelled(shape, labels)


def _renamed(layout: Layout | Split | None, to: Callable[[int], int]) -> Layout | Split | None:
    return layout.moved(to) if isinstance(layout, Split) else layout


def _resized(ids: Tensor, dim: int, size: int) -> Tensor:
    """Ids that do not vary along `dim`, with another size there."""
    shape = list(ids.shape)
    shape[dim] = size
    return ids.narrow(dim, 0, 1).expand(shape)


def _index(dim: int, at: slice) -> tuple[slice, ...]:
    return (*([slice(None)] * dim), at)


def _resolve(shape: Shape, size: Sequence[int]) -> Shape:
    known = _prod([s for s in size if s != -1])
    return tuple(_prod(shape) // max(known, 1) if s == -1 else int(s) for s in size)


def _scaled(x: Value, dim: int, by: int) -> Shape:
    dim %= len(x.shape)
    return (*x.shape[:dim], x.shape[dim] * by, *x.shape[dim + 1 :])


def _prod(sizes: Sequence[int]) -> int:
    total = 1
    for s in sizes:
        total *= s
    return total
