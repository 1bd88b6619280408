"""Ops that contract a dimension with a weight: convolution, linear, embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from edgeprune.channels.core import (
    Flow,
    Label,
    Shape,
    Value,
    aten,
    labelled,
    rule,
    spread,
    values_in,
)
from edgeprune.channels.layout import Split

CROSSES = "several kinds of channels meet in one contraction"


def weight_ids(weight: Value, dim: int) -> torch.Tensor | None:
    """The ids of a weight along `dim`, or None where it has none (size 1)."""
    label = next(iter(weight.varying(dim)), None)
    return None if label is None else label.along(dim)


def read(flow: Flow, weight: Value, dim: int, ids: torch.Tensor | None) -> None:
    """`weight` consumes `ids` along `dim`; nothing to consume pins that side of it."""
    flow.role(weight, dim, "in")
    if ids is not None:
        flow.consume(weight, dim, ids)
        return
    own = weight_ids(weight, dim)
    if own is not None:
        flow.pin(own, "reads an input whose channels cannot be removed")


def _own(flow: Flow, parameter: Value | None, ids: torch.Tensor | None) -> None:
    """A per-channel parameter (bias) follows `ids`."""
    if parameter is None:
        return
    if ids is not None:
        flow.consume(parameter, 0, ids)
    else:
        flow.pin_all(parameter, "belongs to channels that cannot be removed")


def _pin_kernel(flow: Flow, weight: Value) -> None:
    for label in weight.labels:
        if min(label.dims) >= 2:
            flow.pin(label.ids, "kernel positions are not channels")


def _rest(flow: Flow, others: list[Label], shape: Shape, dim: int, fixed: set[int]) -> list[Label]:
    """Labels that pass a contraction along `dim`; those that vary along `fixed` are pinned."""
    passed = []
    for label in others:
        if label.dims & fixed:
            flow.pin(label.ids, "varies over positions that the op slides over")
            continue
        passed.append(resized(label, shape, {dim, *fixed}))
    return passed


def resized(label: Label, shape: Shape, dims: set[int]) -> Label:
    """A label that does not vary along `dims`, over a value of `shape` that differs there."""

    def fit(ids: torch.Tensor) -> torch.Tensor:
        for d in dims:
            ids = ids.narrow(d, 0, 1)
        return ids.expand(shape)

    layout = label.layout
    if isinstance(layout, Split):
        layout = replace(layout, which=fit(layout.which))
    return Label(fit(label.ids), layout)


@rule(aten.linear.default)
def linear(flow: Flow, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Ids (..., C_in) → (..., C_out): inputs are consumed, outputs are the weight's rows."""
    dim = len(x.shape) - 1
    ids, others = flow.contract(x, dim, CROSSES)
    read(flow, weight, 1, ids)
    flow.role(weight, 0, "out")
    out = weight_ids(weight, 0)
    _own(flow, bias, out)
    shape = (*x.shape[:-1], weight.shape[0])
    labels = _rest(flow, others, shape, dim, set())
    if out is not None:
        labels.append(Label(spread(out, dim, shape)))
    return labelled(shape, labels)


@rule(
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
)
def convolution(
    flow: Flow, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **kwargs: Any
) -> Value:
    """Ids (N, C_in, *) → (N, C_out, *): the weight is (C_out, C_in / groups, *kernel)."""
    groups = rest[3] if len(rest) > 3 else kwargs.get("groups", 1)
    _pin_kernel(flow, weight)
    # decided once: a grouped convolution that is cut to one channel a group is still a grouped one
    depthwise = flow.choose(weight.shape[:2] == (groups, 1), "depthwise")
    shape: Shape = flow.node.meta["shape"]
    shape = (x.shape[0], weight.shape[0], *shape[2:])
    if groups == 1:
        ids, others = flow.contract(x, 1, CROSSES)
        read(flow, weight, 1, ids)
        flow.role(weight, 0, "out")
        out = weight_ids(weight, 0)
        _own(flow, bias, out)
        label = None if out is None else Label(spread(out, 1, shape))
    elif depthwise:
        label, others = _depthwise(flow, x, weight, bias, shape)
    else:
        label, others = _grouped(flow, x, weight, bias, groups, shape)
    labels = _rest(flow, others, shape, 1, set(range(2, len(shape))))
    return labelled(shape, [*labels, label] if label is not None else labels)


def _depthwise(
    flow: Flow, x: Value, weight: Value, bias: Value | None, shape: Shape
) -> tuple[Label | None, list[Label]]:
    """One output for each input: the channels pass, in the order in which they come."""
    carried = next(iter(x.varying(1)), None)
    ids, others = flow.contract(x, 1, CROSSES)
    flow.role(weight, 0, "own")
    _own(flow, weight_side(weight, 0), ids)
    _own(flow, bias, ids)
    if carried is None or ids is None:
        return None, others
    split = carried.split
    if split is not None and split.axis == 1:
        passed = resized(carried, shape, set(range(2, len(shape))))
        return passed, [label for label in others if not label.dims & set(split.axes)]
    layout = carried.layout if carried.dims == {1} else None
    return Label(spread(ids, 1, shape), layout), others


def weight_side(weight: Value, dim: int) -> Value:
    """A weight with only the labels that vary along `dim`."""
    return replace(weight, labels=weight.varying(dim))


def _grouped(
    flow: Flow, x: Value, weight: Value, bias: Value | None, groups: int, shape: Shape
) -> tuple[Label | None, list[Label]]:
    """Grouped convolution: whole groups go, or the same positions of every group, whichever leaves
    the finer choice."""
    x = replace(x, labels=tuple(flow.settle(label) for label in x.labels))
    ids, others = flow.contract(x, 1, CROSSES)
    out = weight_ids(weight, 0)
    inner = weight_ids(weight, 1)
    per_group = weight.shape[1]
    if ids is None or out is None:
        for pinned in (ids, out, inner):
            if pinned is not None:
                flow.pin(pinned, "grouped convolution of channels that cannot be removed")
        if bias is not None:
            flow.pin_all(bias, "grouped convolution of channels that cannot be removed")
        return None, others
    flow.role(weight, 0, "out")
    flow.role(weight, 1, "in")
    _own(flow, bias, out)
    rows, out_rows = ids.view(groups, -1), out.view(groups, -1)
    if flow.choose(groups >= per_group):
        flow.unite(rows, rows[:, :1])
        flow.unite(out_rows, rows[:, :1])
        if inner is not None:
            flow.pin(inner, "positions within the groups of a convolution")
    else:
        flow.unite(rows, rows[:1])
        flow.unite(out_rows, out_rows[:1])
        if inner is not None:
            flow.consume(weight, 1, rows[0])
    return Label(spread(out, 1, shape)), others


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def convolution_transposed(
    flow: Flow, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **kwargs: Any
) -> Value:
    """Ids (N, C_in, *) → (N, C_out, *): the weight is (C_in, C_out / groups, *kernel)."""
    groups = rest[3] if len(rest) > 3 else kwargs.get("groups", 1)
    _pin_kernel(flow, weight)
    full = flow.node.meta["shape"]
    shape: Shape = (x.shape[0], weight.shape[1] * groups, *full[2:])
    x = replace(x, labels=tuple(flow.settle(label) for label in x.labels))
    ids, others = flow.contract(x, 1, CROSSES)
    read(flow, weight, 0, ids)
    flow.role(weight, 1, "out")
    out = weight_ids(weight, 1)
    if groups > 1:
        if out is not None:
            flow.pin(out, "positions within the groups of a convolution")
        if ids is not None:
            rows = ids.view(groups, -1)
            flow.unite(rows, rows[:, :1])
            ids = rows[:, :1].expand(groups, weight.shape[1]).flatten()
        out = ids
    _own(flow, bias, out)
    labels = _rest(flow, others, shape, 1, set(range(2, len(shape))))
    if out is not None:
        labels.append(Label(spread(out, 1, shape)))
    return labelled(shape, labels)


@rule(aten.embedding.default)
def embedding(flow: Flow, weight: Value, indices: Value, *args: Any, **kwargs: Any) -> Value:
    """Ids (V, C) → (..., C): rows are addressed by number and stay."""
    flow.pin_all(indices, "used as an index")
    rows = weight_ids(weight, 0)
    if rows is not None:
        flow.pin(rows, "rows are addressed by number")
    shape = (*indices.shape, weight.shape[1])
    columns = weight_ids(weight, 1)
    flow.role(weight, 1, "out")
    return labelled(
        shape, [] if columns is None else [Label(spread(columns, len(shape) - 1, shape))]
    )


@rule(aten.embedding_bag.padding_idx, aten.embedding_bag.default)
def embedding_bag(flow: Flow, weight: Value, indices: Value, *args: Any) -> tuple[Value, ...]:
    """Ids (V, C) → (bags, C), and three tensors of bookkeeping."""
    for value in values_in(args):
        flow.pin_all(value, "used as an index")
    columns = embedding(flow, weight, indices)
    shapes = flow.node.meta["shape"]
    shape = (*shapes[0][:-1], weight.shape[1])
    labels = [Label(spread(label.along(-1), 1, shape)) for label in columns.labels]
    return (labelled(shape, labels), *(Value(tuple(other)) for other in shapes[1:]))
