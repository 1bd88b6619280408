"""Reshapes: which labels pass as they are, which dimension is split into parts, which parts merge.

A reshape falls into runs of dimensions with equal products (1, 512, 7, 7) → (1, 25088):
[1 → 1], [512, 7, 7 → 25088]. A label is touched only by the run that holds its dimensions.
"""

from __future__ import annotations

import torch

from edgeprune.channels.core import Flow, Label, Shape, Value, labelled, tidy
from edgeprune.channels.layout import Interleaved, Layout, Plain, Split, chain

Run = tuple[tuple[int, ...], tuple[int, ...]]


def reshaped(flow: Flow, x: Value, shape: Shape) -> Value:
    """The value of `shape` with the same elements in the same order."""
    if tuple(shape) == x.shape:
        return Value(x.shape, x.labels)
    pieces = runs(x.shape, shape)
    return labelled(shape, [_reshape(flow, label, x.shape, shape, pieces) for label in x.labels])


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


def _reshape(flow: Flow, label: Label, old: Shape, new: Shape, pieces: list[Run]) -> Label:
    touched = [run for run in pieces if label.dims & set(run[0])]
    if all(len(a) == len(b) == 1 for a, b in touched):
        names = {a[0]: b[0] for a, b in pieces if len(a) == len(b) == 1}
        layout = label.layout
        if isinstance(layout, Split):
            layout = layout.moved(lambda d: names.get(d, d))
        return Label(_moved(label.ids, new, names), layout)
    ((source, target), *others) = touched
    layout = label.layout
    if not others:
        if len(source) == 1 and not isinstance(layout, Split):
            return _split(flow, label, new, source[0], target)
        if len(target) == 1:
            merged = _merged(layout, source)
            if merged is not None:
                ids = tidy(label.ids.reshape(new))
                return Label(ids, None if isinstance(merged, Plain) else merged)
    label = flow.settle(label)
    ids = tidy(label.ids.reshape(new))
    varying = frozenset(d for d in range(ids.dim()) if ids.size(d) > 1 and ids.stride(d))
    if len(varying) > 1 and any(len(a) > 1 and len(b) > 1 for a, b in touched):
        flow.pin(ids, "channels are regrouped by a reshape")
    return Label(ids)


def _moved(ids: torch.Tensor, new: Shape, names: dict[int, int]) -> torch.Tensor:
    """Ids whose varying dimensions keep their sizes, under their new numbers."""
    keep = sorted(d for d in range(ids.dim()) if ids.size(d) > 1 and ids.stride(d))
    index = tuple(slice(None) if d in keep else 0 for d in range(ids.dim()))
    view = [1] * len(new)
    for d in keep:
        view[names[d]] = ids.size(d)
    return ids[index].reshape(view).expand(new)


def _split(flow: Flow, label: Label, new: Shape, dim: int, target: tuple[int, ...]) -> Label:
    """One dimension becomes several: parts, each of which must keep equally many."""
    vector = label.along(dim)
    view = [1] * len(new)
    for d in target:
        view[d] = new[d]
    ids = tidy(vector.reshape(view)).expand(new)
    varying = [d for d in target if ids.stride(d) and ids.size(d) > 1]
    if len(varying) < 2 or not flow.tracks_layouts:
        if label.layout is not None:
            flow.settle(label)
        return Label(ids)
    axis, axes = varying[-1], tuple(varying[:-1])
    inner = new[axis]
    tail = 1
    for d in target[target.index(axis) + 1 :]:
        tail *= new[d]
    if tail != 1 or len(varying) != len(target):
        flow.settle(label)
        flow.equal_counts(
            list(
                ids[tuple(slice(None) if d in varying else 0 for d in range(len(new)))].reshape(
                    -1, inner
                )
            )
        )
        return Label(ids)
    order = label.layout if isinstance(label.layout, Layout) else Plain(vector)
    count = vector.numel() // inner
    parts = tuple(
        order.cut(i * inner, (i + 1) * inner, flow.unite, flow.equal_counts) for i in range(count)
    )
    flow.equal_counts([part.ids() for part in parts])
    return Label(ids, Split(axes, axis, parts))


def _merged(layout: Layout | Split | None, source: tuple[int, ...]) -> Layout | None:
    """The order after dimensions are merged into one, or None where only settling will do."""
    if layout is None:
        return Plain(torch.empty(0, dtype=torch.int64))
    if not isinstance(layout, Split):
        return None
    if source == (*layout.axes, layout.axis):
        return chain(layout.parts)
    if source == (layout.axis, *layout.axes) and len(layout.axes) == 1:
        return Interleaved(layout.parts)
    return None
