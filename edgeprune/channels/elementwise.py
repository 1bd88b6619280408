"""Elementwise ops: the labels of all operands are united, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule, values_in
from edgeprune.channels.layout import Split


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
)
def unchanged(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Ops of one tensor that keep every element where it is."""
    return Value(x.shape, x.labels)


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
        layout = layout.moved(lambda d: d + offset)
    return Label(label.ids.expand(shape), layout)


def _merge(flow: Flow, merged: list[Label], label: Label, value: Value, offset: int) -> None:
    """Unite `label` with what it overlaps in `merged`, or add it there."""
    overlapping = [i for i, other in enumerate(merged) if other.dims & label.dims]
    if not overlapping:
        if label.dims:
            merged.append(label)
        return
    for i in overlapping:
        other = merged[i]
        if value.parameter is not None and label.dims == other.dims and len(label.dims) == 1:
            (dim,) = label.dims
            flow.consume(value, dim - offset, other.along(dim))
            continue
        if other.layout is not label.layout:
            other, label = flow.settle(other), flow.settle(label)
        flow.unite(label.ids, other.ids)
        merged[i] = min(other, label, key=lambda entry: len(entry.dims))


def _pin_where_unlabelled(flow: Flow, merged: list[Label], value: Value, offset: int) -> None:
    """An operand with an extent of its own and no label is always there in full."""
    own = {d + offset for d, size in enumerate(value.shape) if size > 1}
    labels = [{d + offset for d in label.dims} for label in value.labels]
    for entry in merged:
        if entry.dims & own and not any(entry.dims & dims for dims in labels):
            flow.pin(entry.ids, "combined with a tensor whose elements cannot be removed")
