"""Ops that cut along a dimension, or put pieces together: slice, split, select, cat, pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from edgeprune.channels.contraction import resized
from edgeprune.channels.core import (
    Flow,
    Label,
    Shape,
    Value,
    aten,
    labelled,
    owners_of,
    rule,
    spread,
)
from edgeprune.channels.elementwise import join
from edgeprune.channels.layout import Layout, Plain, Split, chain, compressed, tidy, varying
from edgeprune.channels.movement import carried, unsqueeze
from edgeprune.channels.parts import alike


@rule(aten.slice.Tensor)
def slice_(
    flow: Flow,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """Positions start..end along `dim`; of channels, every other one ties the ones between."""
    dim %= len(x.shape)
    positions = range(x.shape[dim])[start:end:step]
    if step == 1:
        return cut(flow, x, dim, positions.start, positions.stop)
    shape = (*x.shape[:dim], len(positions), *x.shape[dim + 1 :])
    regular = positions.start < step and len(positions) * step == x.shape[dim]
    regular = flow.choose(regular, "regular")
    labels = []
    for label in x.labels:
        if dim not in label.dims:
            labels.append(resized(label, shape, {dim}))
            continue
        if not regular:
            flow.pin(label.ids, "channels are taken in steps")
            label = flow.settle(label)
        labels.append(_every(flow, label, dim, positions, regular))
    return labelled(shape, labels)


def _every(flow: Flow, label: Label, dim: int, positions: range, whole: bool) -> Label:
    """A label at regular positions; where `whole`, as many as they are apart live or die together,
    so that each of those blocks keeps its place."""
    at = (*([slice(None)] * dim), slice(positions.start, positions.stop, positions.step))
    if not whole:
        return Label(tidy(label.ids[at]))
    split = label.split
    inside = split is not None and split.axis == dim
    if not inside:
        label = flow.settle(label)
    elif flow.tracks_layouts:
        for part in split.parts if split is not None else ():
            part.settle(flow.unite)
    blocks = label.ids.unflatten(dim, (-1, positions.step))
    flow.unite(blocks, blocks.narrow(dim + 1, 0, 1).expand(blocks.shape))
    ids = label.ids[at]
    if split is None or not inside:
        return Label(ids)
    parts = tuple(Plain(part.ids()[positions.start :: positions.step]) for part in split.parts)
    return Label(ids, replace(split, parts=parts, which=_fit(split.which, tuple(ids.shape), dim)))


@rule(aten.narrow.default)
def narrow(flow: Flow, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(flow, x, dim, start, start + length)


@rule(aten.select.int)
def select(flow: Flow, x: Value, dim: int, index: int) -> Value:
    """One position along `dim`: one of several parts, or a channel (which is then pinned)."""
    dim %= len(x.shape)
    index %= max(x.shape[dim], 1)
    labels: list[Label] = []
    for label in x.labels:
        labels += _selected(flow, label, dim, index)
    return labelled((*x.shape[:dim], *x.shape[dim + 1 :]), labels)


def _selected(flow: Flow, label: Label, dim: int, index: int) -> list[Label]:
    def op(t: Tensor) -> Tensor:
        return t.select(dim, index)

    def axis(d: int) -> int:
        return d - (d > dim)

    split = label.split
    if dim not in label.dims:
        return [carried(label, op, axis)]
    if split is None:
        label = flow.settle(label)
        if label.dims == {dim}:
            flow.pin(label.ids.select(dim, index), "a single channel is selected")
        return [Label(op(label.ids))]
    if split.axis == dim:
        flow.pin(label.ids, "a single channel of every part is selected", within=True)
        return [Label(op(owners.ids)) for owners in owners_of(label)]
    if split.axes == [dim]:
        flow.pin(split.owners, "a part is selected by its number")
        order = split.parts[int(compressed(op(split.which)))]
        return [Label(op(label.ids), None if isinstance(order, Plain) else order)]
    return [carried(label, op, axis)]


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


@rule(aten.tensor_split.indices)
def tensor_split(flow: Flow, x: Value, indices: Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    dim %= len(x.shape)
    borders = [0, *(min(i, x.shape[dim]) for i in indices), x.shape[dim]]
    sizes = [b - a for a, b in pairwise(borders)]
    return split_with_sizes(flow, x, sizes, dim)


@rule(aten.tensor_split.sections)
def tensor_split_evenly(flow: Flow, x: Value, count: int, dim: int = 0) -> tuple[Value, ...]:
    dim %= len(x.shape)
    size, more = divmod(x.shape[dim], count)
    return split_with_sizes(flow, x, [size + (i < more) for i in range(count)], dim)


@rule(aten.chunk.default)
def chunk(flow: Flow, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return split(flow, x, -(-x.shape[dim] // chunks), dim)


@rule(aten.glu.default)
def gated(flow: Flow, x: Value, dim: int = -1) -> Value:
    """One half times the sigmoid of the other (Dauphin et al. 2017)."""
    half, gate = chunk(flow, x, 2, dim)
    return join(flow, [half, gate], half.shape)


def cut(flow: Flow, x: Value, dim: int, start: int, end: int) -> Value:
    """Positions start..end of a value along `dim`."""
    end = max(start, end)
    shape = (*x.shape[:dim], end - start, *x.shape[dim + 1 :])
    if shape == x.shape:
        return Value(x.shape, x.labels)
    if start == end:
        return Value(shape)  # nothing of it is there to be removed
    labels = [_cut(flow, label, shape, dim, start) for label in x.labels]
    if end - start == 1:  # a dimension of one has no channels: what is there stays
        for label in x.varying(dim):
            _pin_one(flow, label, dim, start)
    return labelled(shape, labels)


def _pin_one(flow: Flow, label: Label, dim: int, index: int) -> None:
    split = label.split
    if split is not None and split.axis != dim:
        flow.pin(split.owner_ids().narrow(dim, index, 1), "a single part is cut out")
    else:
        ids = label.ids.narrow(dim, index, 1)
        flow.pin(ids, "a single channel is cut out", within=split is not None)


def _cut(flow: Flow, label: Label, shape: Shape, dim: int, start: int) -> Label:
    if dim not in label.dims:
        return resized(label, shape, {dim})

    def op(t: Tensor) -> Tensor:
        return tidy(t.narrow(dim, start, shape[dim]))

    layout = label.layout
    if isinstance(layout, Split):
        if layout.axis != dim:
            return carried(label, op, lambda d: d)
        parts = tuple(
            part.cut(start, start + shape[dim], flow.unite, flow.equal_counts)
            for part in layout.parts
        )
        flow.equal_counts([part.ids() for part in parts])
        ids = label.ids.narrow(dim, start, shape[dim])
        return Label(ids, replace(layout, parts=parts, which=_fit(layout.which, shape, dim)))
    if isinstance(layout, Layout):
        layout = layout.cut(start, start + shape[dim], flow.unite, flow.equal_counts)
    return Label(op(label.ids), None if isinstance(layout, Plain) else layout)


def _fit(ids: Tensor, shape: Shape, dim: int) -> Tensor:
    return ids.narrow(dim, 0, 1).expand(shape)


# --- putting together ----------------------------------------------------------------------------


@rule(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(flow: Flow, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Along `dim` the ids follow each other; along other dimensions they are united."""
    tensors = [t for t in tensors if t.shape != (0,)]
    dim %= len(tensors[0].shape)
    shape = list(tensors[0].shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    out: Shape = tuple(shape)
    thin = tuple(1 if d == dim else s for d, s in enumerate(out))
    parts = _parts_together(flow, tensors, dim, out)
    if parts is not None:
        return labelled(out, [parts])
    across, vectors, layouts = [], [], []
    for t in tensors:
        order = next((e.layout for e in t.varying(dim) if e.dims == {dim}), None)
        vector, others = flow.contract(t, dim, "several kinds of channels are concatenated")
        vector = torch.zeros(t.shape[dim], dtype=torch.int64) if vector is None else vector
        vectors.append(vector)
        layouts.append(order if isinstance(order, Layout) else Plain(vector))
        across.append(Value(thin, tuple(resized(e, thin, {dim}) for e in others)))
    labels = [resized(e, out, {dim}) for e in join(flow, across, thin).labels]
    if any(bool(v.any()) for v in vectors):
        order = chain(layouts)
        labels.append(
            Label(spread(torch.cat(vectors), dim, out), None if isinstance(order, Plain) else order)
        )
    return labelled(out, labels)


def _parts_together(flow: Flow, tensors: Sequence[Value], dim: int, out: Shape) -> Label | None:
    """The label of a concatenation of values that each carry one label, with parts: part beside
    part, or piece beside piece inside of the same parts. None where they do not fit."""
    labels = [t.labels[0] for t in tensors if len(t.labels) == 1]
    splits = [label.split for label in labels if label.split is not None]
    if len(splits) != len(tensors) or len({s.axis for s in splits}) != 1:
        return None
    first = splits[0]
    ids = torch.cat([label.ids for label in labels], dim)
    if first.axis == dim:
        if not all(alike(s.which, first.which) for s in splits):
            return None
        for s in splits[1:]:
            flow.unite(s.owners, first.owners)
        parts = tuple(chain(pieces) for pieces in zip(*(s.parts for s in splits), strict=True))
        return Label(
            _broadcast_again(ids, labels, dim),
            replace(first, parts=parts, which=_fit(first.which, out, dim)),
        )
    if any(s.axes != [dim] for s in splits):
        return None
    links = tuple(part for s in splits for part in s.parts)
    flow.equal_counts([part.ids() for part in links])
    owners = torch.cat([s.owners for s in splits])
    if not all(bool(s.owners.any()) for s in splits):
        flow.pin(owners, "parts beside others that cannot be removed")
    starts = [0]
    for s in splits:
        starts.append(starts[-1] + len(s.parts))
    which = torch.cat([s.which + at for s, at in zip(splits, starts, strict=False)], dim)
    return Label(
        _broadcast_again(ids, labels, dim),
        Split(first.axis, links, _broadcast_again(which, labels, dim), owners),
    )


def _broadcast_again(joined: Tensor, labels: Sequence[Label], dim: int) -> Tensor:
    """Concatenating spells broadcasting out: back to stride 0 where no label varies."""
    shape = joined.shape
    every = {dim, *(d for label in labels for d in varying(label.ids))}
    for d in range(joined.dim()):
        if d not in every:
            joined = joined.narrow(d, 0, 1)
    return joined.expand(shape)


@rule(aten.stack.default)
def stack(flow: Flow, tensors: Sequence[Value], dim: int = 0) -> Value:
    at = dim % (len(tensors[0].shape) + 1)
    return cat(flow, [unsqueeze(flow, t, at) for t in tensors], at)


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(
    flow: Flow, x: Value, padding: Sequence[int], mode: Any = "constant", value: float | None = None
) -> Value:
    """Zero padding makes new channels; padding with anything else pins what is beside it."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    zeros = mode == "constant" and not value
    for i in range(len(padding) // 2):
        at = len(x.shape) - 1 - i
        x = _pad_one(flow, x, at, (padding[2 * i], padding[2 * i + 1]), zeros)
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
            labels.append(resized(label, shape, {dim}))
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
