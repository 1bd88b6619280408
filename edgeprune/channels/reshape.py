"""Reshapes: which labels pass as they are, which dimension is split into parts, which parts merge.

A reshape falls into runs of dimensions with equal products (1, 512, 7, 7) → (1, 25088):
[1 → 1], [512, 7, 7 → 25088]. A label is touched only by the runs that hold its dimensions.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from edgeprune.channels.core import Flow, Label, Shape, Value, labelled
from edgeprune.channels.layout import Interleaved, Layout, Plain, Split, chain, compressed, tidy
from edgeprune.channels.layout import varying as varying_dims
from edgeprune.channels.lookahead import is_read_as_channels

Run = tuple[tuple[int, ...], tuple[int, ...]]

_SMALL = 4
"""Parts of at most this many channels, where there are more parts than that, go whole."""


def reshaped(flow: Flow, x: Value, shape: Shape) -> Value:
    """The value of `shape` with the same elements in the same order."""
    if tuple(shape) == x.shape:
        return Value(x.shape, x.labels)
    pieces = runs(x.shape, shape)
    return labelled(shape, [_reshape(flow, label, shape, pieces) for label in x.labels])


def runs(old: Shape, new: Shape) -> list[Run]:
    """Pairs of (old dims, new dims) with equal products, in order; dims of size 1 are left out."""
    source = [d for d, s in enumerate(old) if s != 1]
    target = [d for d, s in enumerate(new) if s != 1]
    found: list[Run] = []
    while source or target:
        a, b = [source.pop(0)], [target.pop(0)]
        left, right = old[a[0]], new[b[0]]
        while left != right:
            if left < right:
                a.append(source.pop(0))
                left *= old[a[-1]]
            else:
                b.append(target.pop(0))
                right *= new[b[-1]]
        found.append((tuple(a), tuple(b)))
    return found


def _reshape(flow: Flow, label: Label, new: Shape, pieces: list[Run]) -> Label:
    split = label.split
    if split is not None:
        run = next((run for run in pieces if split.axis in run[0]), None)
        if run is not None:
            reshape = _KINDS.get((len(run[0]) > 1, len(run[1]) > 1))
            found = reshape(flow, label, new, pieces, run) if reshape is not None else None
            if found is not None:
                return found
    elif len(label.dims) == 1:
        (dim,) = label.dims
        source, target = next(run for run in pieces if dim in run[0])
        if len(source) == 1 and len(target) > 1:
            return _split(flow, label, new, dim, target)
        if len(source) == len(target) == 1:
            return replace(label, ids=_moved(label.ids, new, pieces))
    label = flow.settle(label)
    ids = _moved(label.ids, new, pieces)
    regrouped = any(len(a) > 1 and len(b) > 1 and label.dims & set(a) for a, b in pieces)
    if regrouped and len(varying_dims(ids)) > 1:
        flow.pin(ids, "channels are regrouped by a reshape")
    return Label(ids)


def _moved(ids: Tensor, new: Shape, pieces: list[Run]) -> Tensor:
    """Broadcast ids in the new shape; runs along which they do not vary cost nothing."""
    varies = set(varying_dims(ids))
    index: list[slice] = [slice(0, 1)] * ids.dim()
    small = [1] * len(new)
    for source, target in pieces:
        if varies & set(source):
            for d in source:
                index[d] = slice(None)
            for d in target:
                small[d] = new[d]
    return tidy(ids[tuple(index)].reshape(small)).expand(new)


# --- a dimension becomes several -----------------------------------------------------------------


def _split(flow: Flow, label: Label, new: Shape, dim: int, target: tuple[int, ...]) -> Label:
    """One dimension becomes several: parts, each of which must keep equally many."""
    vector = label.along(dim)
    view = [1] * len(new)
    for d in target:
        view[d] = new[d]
    ids = tidy(vector.reshape(view)).expand(new)
    axes = varying_dims(ids)
    if _makes_a_map(flow, axes, len(new)):
        label = flow.settle(label)
        first = ids
        for d in axes[1:]:
            first = first.narrow(d, 0, 1)
        flow.unite(ids, first.expand(new))
        return Label(first.expand(new))
    if len(axes) < 2 or _tied_blocks(flow, new, axes):
        label = flow.settle(label)
        if len(axes) < 2:
            return Label(ids)
        first = ids.narrow(axes[-1], 0, 1).expand(new)
        flow.unite(ids, first)
        ids, axes = first, axes[:-1]
        if len(axes) < 2:
            return Label(ids)
    rows = compressed(ids).reshape(-1, new[axes[-1]])
    parts = _parts(flow, label, rows)
    flow.equal_counts([part.ids() for part in parts])
    last = new[axes[-2]]
    owners = flow.fresh(last, f"parts {axes[-2]}").repeat(len(rows) // last)
    flow.own(rows, owners)
    return Label(ids, Split(axes[-1], parts, _numbered(new, axes[:-1]), owners))


def _makes_a_map(flow: Flow, axes: list[int], rank: int) -> bool:
    """Whether channels (dimension 1) and their positions come from one dimension (a linear layer
    that makes the first map of a generator): a channel then goes with all of its positions."""
    made = flow.node.meta.get("val")
    # a step inside of a rule (a shuffle's) has a shape that nobody reads
    is_result = isinstance(made, Tensor) and made.dim() == rank
    makes = is_result and len(axes) > 1 and axes[0] == 1 and is_read_as_channels(flow.node)
    return flow.choose(makes, "map")


def _tied_blocks(flow: Flow, new: Shape, axes: list[int]) -> bool:
    """Whether the innermost blocks go whole, rather than each keep equally many channels."""
    inner, outer = new[axes[-1]], math.prod(new[d] for d in axes[:-1])
    return flow.choose(inner <= _SMALL and outer > inner, f"blocks {axes[-1]}")


def _parts(flow: Flow, label: Label, rows: Tensor) -> tuple[Layout, ...]:
    layout = label.layout
    if not flow.tracks_layouts or not isinstance(layout, Layout):
        return tuple(Plain(row) for row in rows)
    if layout.ids().numel() != rows.numel():
        flow.settle(label)
        return tuple(Plain(row) for row in rows)
    size = rows.size(1)
    return tuple(
        layout.cut(i * size, (i + 1) * size, flow.unite, flow.equal_counts)
        for i in range(rows.size(0))
    )


def _numbered(shape: Shape, axes: list[int]) -> Tensor:
    """0, 1, 2, … over `axes`, broadcast to `shape`."""
    view = [shape[d] if d in axes else 1 for d in range(len(shape))]
    return torch.arange(math.prod(view)).view(view).expand(shape)


def _axis_stays(flow: Flow, label: Label, new: Shape, pieces: list[Run], run: Run) -> Label | None:
    split = label.split
    assert split is not None
    ids = _moved(label.ids, new, pieces)
    return Label(ids, split.moved(lambda t: _moved(t, new, pieces), run[1][0]))


def _axis_splits(flow: Flow, label: Label, new: Shape, pieces: list[Run], run: Run) -> Label | None:
    """The inside of the parts becomes several dimensions: smaller parts."""
    split, target = label.split, list(run[1])
    assert split is not None
    ids = _moved(label.ids, new, pieces)
    which = _moved(split.which, new, pieces)
    if not set(target) <= set(varying_dims(ids)):
        return None
    inner = new[target[-1]]
    if _tied_blocks(flow, new, target):
        if not split.is_plain or len(target) != 2:
            return None
        first = ids.narrow(target[-1], 0, 1).expand(new)
        flow.unite(ids, first)
        blocks = tuple(Plain(part.ids()[::inner]) for part in split.parts)
        return Label(first, Split(target[0], blocks, which, split.owners))
    count = math.prod(new[d] for d in target[:-1])
    parts = tuple(
        part.cut(i * inner, (i + 1) * inner, flow.unite, flow.equal_counts)
        for part in split.parts
        for i in range(count)
    )
    flow.equal_counts([part.ids() for part in parts])
    numbers = _numbered(new, target[:-1])
    whole = (compressed(which) * count + compressed(numbers)).expand(new)
    owners = split.owners.repeat_interleave(count)
    return Label(ids, Split(target[-1], parts, whole, owners))


# --- several dimensions become one ---------------------------------------------------------------


def _axis_merges(flow: Flow, label: Label, new: Shape, pieces: list[Run], run: Run) -> Label | None:
    """Parts follow one another in one dimension, or are interleaved there."""
    split = label.split
    assert split is not None
    source, (target,) = run
    inside = set(split.axes) & set(source)
    ids = _moved(label.ids, new, pieces)
    if not inside:
        return _repeated(flow, label, ids, pieces, run)
    if source == (split.axis, *sorted(inside)) and len(inside) == 1 == len(split.axes):
        flow.unite(split.owners, torch.zeros_like(split.owners))
        order = compressed(split.which).flatten().tolist()
        return _ordered(flow, ids, Interleaved(tuple(split.parts[i] for i in order)))
    before = [d for d in source if d < split.axis]
    if source[-1] != split.axis or not inside <= set(before):
        return None
    outside = [d for d in split.axes if d not in source]
    keep = [*outside, *before]
    index = tuple(slice(None) if d in keep else slice(0, 1) for d in range(split.which.dim()))
    rest = [d for d in range(split.which.dim()) if d not in keep]
    rows = split.which[index].permute([*keep, *rest])
    rows = rows.reshape(math.prod(split.which.size(d) for d in outside), -1)
    chains = tuple(chain([split.parts[i] for i in row]) for row in rows.tolist())
    if not outside:
        return _ordered(flow, ids, chains[0])
    by_row = split.owners[rows]
    one_owner = bool((by_row == by_row[:, :1]).all())
    owners = by_row[:, 0] if one_owner else torch.zeros_like(by_row[:, 0])
    which = _moved(_numbered(tuple(split.which.shape), outside), new, pieces)
    return Label(ids, Split(target, chains, which, owners))


def _repeated(flow: Flow, label: Label, ids: Tensor, pieces: list[Run], run: Run) -> Label:
    """The inside of the parts merges with dimensions along which the label does not vary: every
    channel comes several times."""
    split = label.split
    assert split is not None
    source, (target,) = run
    before = math.prod(label.ids.size(d) for d in source if d < split.axis)
    after = math.prod(label.ids.size(d) for d in source if d > split.axis)
    if flow.tracks_layouts:
        for part in split.parts:
            part.settle(flow.unite)
    parts = tuple(Plain(part.ids().repeat(before).repeat_interleave(after)) for part in split.parts)
    which = _moved(split.which, tuple(ids.shape), pieces)
    return Label(ids, replace(split, axis=target, parts=parts, which=which))


def _ordered(flow: Flow, ids: Tensor, order: Layout) -> Label:
    plain = isinstance(order, Plain) or not flow.tracks_layouts
    return Label(ids, None if plain else order)


_KINDS = {
    (False, False): _axis_stays,
    (False, True): _axis_splits,
    (True, False): _axis_merges,
}
"""By whether the run that holds the axis has several old dimensions, and several new ones."""
