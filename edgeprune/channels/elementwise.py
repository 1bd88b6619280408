"""Elementwise ops: the labels of all operands are united, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule, values_in
from edgeprune.channels.layout import Plain, Split
from edgeprune.channels.parts import alike, beside, finer


@rule("pointwise")
def elementwise(flow: Flow, *args: Any, **kwargs: Any) -> Value:
    """Any op that ATen tags pointwise: operands broadcast, labels that overlap are united."""
    inputs = values_in((args, kwargs))
    return join(flow, inputs, tuple(torch.broadcast_shapes(*(v.shape for v in inputs))))


@rule(
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.detach_.default,
    aten.lift_fresh_copy.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
    aten.gelu.default,
    aten.relu6.default,
    aten.silu.default,
    aten.hardswish.default,
    aten.mish.default,
    aten.selu.default,
    aten.celu.default,
    aten.rrelu.default,
    aten.softplus.default,
    aten.log_sigmoid.default,
    aten.hardtanh.default,
    aten.zero.default,
    aten.fill.Scalar,
    aten.fill.Tensor,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
)
def unchanged(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Ops of one tensor that keep every element where it is."""
    return Value(x.shape, x.labels)


@rule(aten.copy.default)
def copied(flow: Flow, x: Value, other: Value, *args: Any) -> Value:
    """The other's numbers in the place of x: the same elements."""
    return join(flow, [x, replace(other, parameter=None)], x.shape)


@rule(aten.prelu.default)
def prelu(flow: Flow, x: Value, weight: Value) -> Value:
    """The slopes are per channel (dimension 1), or a single one for all."""
    for label in weight.labels:
        ids = next((x_label.along(1) for x_label in x.varying(1)), None)
        if ids is None:
            flow.pin(label.ids, "slopes of channels that cannot be removed")
        else:
            flow.consume(weight, 0, ids)
    return Value(x.shape, x.labels)


def join(flow: Flow, inputs: Sequence[Value], shape: Shape) -> Value:
    """The value of `shape` that combines operands element by element (NumPy broadcasting)."""
    merged: list[Label] = []
    for value in sorted(inputs, key=lambda v: v.parameter is not None):
        offset = len(shape) - len(value.shape)
        for label in value.labels:
            _merge(flow, merged, _broadcast(label, shape, offset), value, offset)
    for value in inputs:
        _pin_where_unlabelled(flow, merged, value, len(shape) - len(value.shape))
    return labelled(shape, merged)


def _broadcast(label: Label, shape: Shape, offset: int) -> Label:
    layout = label.layout
    if isinstance(layout, Split):
        layout = layout.moved(lambda t: t.expand(shape), layout.axis + offset)
    return Label(label.ids.expand(shape), layout)


def _merge(flow: Flow, merged: list[Label], label: Label, value: Value, offset: int) -> None:
    """Unite `label` with what it overlaps in `merged`, or add it there."""
    overlapping = [i for i, other in enumerate(merged) if other.dims & label.dims]
    if not overlapping:
        if label.dims:
            merged.append(label)
        return
    absorbed = False
    for i in overlapping:
        other = merged[i]
        if beside(other, label):
            assert other.split is not None
            assert label.split is not None
            flow.unite(other.split.owners, label.split.owners)
            continue
        absorbed = True
        if value.parameter is not None and label.dims == other.dims and len(label.dims) == 1:
            (dim,) = label.dims
            flow.consume(value, dim - offset, other.along(dim))
        elif other.split is not None and label.split is not None:
            merged[i] = label = _same_parts(flow, other, label)
        elif other.split is not None:
            merged[i] = label = _with_parts(flow, other, label)
        elif label.split is not None:
            merged[i] = label = _with_parts(flow, label, other)
        else:
            if other.layout is not label.layout:
                other, label = flow.settle(other), flow.settle(label)
            flow.unite(label.ids, other.ids)
            merged[i] = min(other, label, key=lambda entry: len(entry.dims))
    if not absorbed:
        merged.append(label)


def _same_parts(flow: Flow, a: Label, b: Label) -> Label:
    """Two labels that both have parts: the same ones, or they are tied to be."""
    assert a.split is not None
    assert b.split is not None
    if a.split.axis != b.split.axis:
        return _settled(flow, a, b)
    one, other = a.split, b.split
    if not alike(one.which, other.which):
        one, other = finer(flow, one, other)
    if one is not other and not (one.is_plain and other.is_plain):
        for part in (*one.parts, *other.parts):
            if flow.tracks_layouts:
                part.settle(flow.unite)
    flow.unite(a.ids, b.ids)
    flow.unite(one.owners, other.owners)
    return replace(a, layout=one)


def _with_parts(flow: Flow, parts: Label, label: Label) -> Label:
    """A label with parts and one without: over the parts themselves, or inside all of them."""
    split = parts.split
    assert split is not None
    if label.dims <= set(split.axes):
        if bool(split.owners.any()):
            flow.unite(split.owner_ids(), label.ids)
        else:
            flow.pin(label.ids, "tells parts apart that cannot be removed")
        return parts
    if label.dims == {split.axis}:
        settled = flow.settle(label)
        if flow.tracks_layouts:
            for part in split.parts:
                part.settle(flow.unite)
        flow.unite(parts.ids, settled.ids, shared=True)
        plain = tuple(Plain(part.ids()) for part in split.parts)
        return replace(parts, layout=replace(split, parts=plain))
    return _settled(flow, parts, label)


def _settled(flow: Flow, a: Label, b: Label) -> Label:
    a, b = flow.settle(a), flow.settle(b)
    flow.unite(a.ids, b.ids)
    return min(a, b, key=lambda entry: len(entry.dims))


def _pin_where_unlabelled(flow: Flow, merged: list[Label], value: Value, offset: int) -> None:
    """An operand with an extent of its own and no label is always there in full."""
    own = {d + offset for d, size in enumerate(value.shape) if size > 1}
    labelled_dims = [{d + offset for d in label.dims} for label in value.labels]
    reason = "combined with a tensor whose elements cannot be removed"
    for entry in merged:
        here = own & entry.dims
        covered = {d for dims in labelled_dims if dims & entry.dims for d in dims}
        split = entry.split
        if split is None:
            if here and not covered:
                flow.pin(entry.ids, reason)
            continue
        if split.axis in here and split.axis not in covered:
            flow.pin(entry.ids, reason, within=True)
        if here & set(split.axes) and not covered & set(split.axes):
            flow.pin(split.owners, reason)
