"""Ops that take positions apart and put them together again: unfolding, folding, sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgeprune.channels.contraction import resized
from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule, spread
from edgeprune.channels.elementwise import join
from edgeprune.channels.movement import permute
from edgeprune.channels.reduction import pool
from edgeprune.channels.reshape import reshaped

_SLIDES = "varies over positions that the op slides over"


@rule(aten.im2col.default)
def unfolded(flow: Flow, x: Value, kernel: Sequence[int], *args: Any) -> Value:
    """(N, C, H, W) → (N, C k, L): every channel comes once for each of the k places in a window."""
    places = math.prod(kernel)
    n, c, _, _ = x.shape
    length = flow.node.meta["shape"][-1]
    apart = (n, c, places, length)
    labels = [_flat(label, apart, 1) for label in _of_channels(flow, x)]
    return reshaped(flow, labelled(apart, labels), (n, c * places, length))


@rule(aten.col2im.default)
def folded(flow: Flow, x: Value, size: Sequence[int], kernel: Sequence[int], *args: Any) -> Value:
    """(N, C k, L) → (N, C, H, W): the k that are added up to one channel go together."""
    _, _, _ = x.shape
    return _tied(flow, x, math.prod(kernel), tuple(size))


@rule(aten.pixel_shuffle.default)
def pixel_shuffle(flow: Flow, x: Value, factor: int) -> Value:
    """(N, C r r, H, W) → (N, C, H r, W r): the r r channels of each new one go together."""
    _, _, h, w = x.shape
    return _tied(flow, x, factor**2, (h * factor, w * factor))


def _tied(flow: Flow, x: Value, count: int, size: Shape) -> Value:
    """(N, C count, *) → (N, C, *size), where `count` channels side by side are one."""
    shape = (x.shape[0], x.shape[1] // count, *size)
    labels = []
    for label in _of_channels(flow, x):
        vector = label.along(1).view(-1, count)
        flow.unite(vector, vector[:, :1].expand(vector.shape))
        labels.append(_flat(Label(vector[:, 0]), shape, 0))
    return labelled(shape, labels)


@rule(aten.pixel_unshuffle.default)
def pixel_unshuffle(flow: Flow, x: Value, factor: int) -> Value:
    """(N, C, H r, W r) → (N, C r r, H, W)."""
    *batch, c, h, w = x.shape
    rank, r = len(batch), factor
    parts = reshaped(flow, x, (*batch, c, h // r, r, w // r, r))
    order = [*range(rank), rank, rank + 2, rank + 4, rank + 1, rank + 3]
    return reshaped(flow, permute(flow, parts, order), (*batch, c * r**2, h // r, w // r))


def _of_channels(flow: Flow, x: Value) -> list[Label]:
    """The labels that vary along dimension 1 alone; any other is pinned."""
    found = []
    for label in x.labels:
        if label.dims == {1}:
            found.append(flow.settle(label))
        else:
            flow.pin(label.ids, _SLIDES)
    return found


def _flat(label: Label, shape: Shape, dim: int) -> Label:
    """The ids of a label along `dim`, as channels of something of `shape`."""
    return Label(spread(label.along(dim), 1, shape))


@rule(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def sampled(flow: Flow, x: Value, grid: Value, *args: Any) -> Value:
    """Channels are read wherever the grid says; the grid's coordinates are no channels."""
    flow.pin_all(grid, "says where to sample")
    return pool(flow, x)


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
def unpooled(flow: Flow, x: Value, places: Value, *args: Any) -> Value:
    """Each channel by itself; where its values go was noted when it was pooled."""
    return pool(flow, join(flow, [x, places], x.shape))


@rule(aten.topk.default, aten.sort.default, aten.sort.stable, aten.argsort.default)
def ranked(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
    """Positions may be sorted in every channel; sorted channels have no order of their own."""
    schema = flow.node.target._schema  # type: ignore[union-attr]
    named = dict(zip([a.name for a in schema.arguments[1:]], args, strict=False)) | kwargs
    dim = named.get("dim", -1) % len(x.shape)
    shape = (*x.shape[:dim], min(x.shape[dim], named.get("k", x.shape[dim])), *x.shape[dim + 1 :])
    labels = []
    for label in x.labels:
        if dim in label.dims:
            flow.pin(label.ids, "is sorted")
        else:
            labels.append(resized(label, shape, {dim}))
    made = labelled(shape, labels)
    return made if flow.node.target is aten.argsort.default else (made, made)
