"""Ops that reduce, pool, resize or normalise: what crosses channels, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeprune.channels.contraction import CROSSES
from edgeprune.channels.core import Flow, Label, Shape, Value, aten, labelled, rule
from edgeprune.channels.layout import Split

_POOLS = (
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default, aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec, aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec,
    aten.upsample_linear1d.vec, aten.upsample_trilinear3d.vec, aten._upsample_nearest_exact2d.vec,
    aten._upsample_bilinear2d_aa.vec, aten._upsample_bicubic2d_aa.vec,
    aten.upsample_nearest2d.default, aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d.default, aten.reflection_pad1d.default, aten.reflection_pad2d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.im2col.default,
)  # fmt: skip
_POOLS_WITH_INDICES = (
    aten.max_pool2d_with_indices.default, aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
)  # fmt: skip


@rule(*(op for op in _POOLS if op is not aten.im2col.default))
def pool(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Positions slide or resize, each channel by itself (N, C, *)."""
    shape: Shape = flow.node.meta["shape"]
    shape = (*x.shape[:2], *shape[2:])
    labels = []
    for label in x.labels:
        if max(label.dims) >= 2:
            flow.pin(label.ids, "varies over positions that the op slides over")
            continue
        ids = label.ids
        for d in range(2, len(shape)):
            ids = ids.narrow(d, 0, 1)
        labels.append(replace(label, ids=ids.expand(shape)))
    return labelled(shape, labels)


@rule(*_POOLS_WITH_INDICES)
def pool_with_indices(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> tuple[Value, ...]:
    shapes = flow.node.meta["shape"]
    full = flow.node.meta
    flow.node.meta = {**full, "shape": shapes[0]}
    try:
        out = pool(flow, x)
    finally:
        flow.node.meta = full
    return out, out


@rule(
    aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.std.correction,
    aten.var.correction, aten.std.dim, aten.var.dim, aten.linalg_vector_norm.default,
    aten.logsumexp.default, aten.argmax.default, aten.argmin.default, aten.prod.dim_int,
    aten.any.dim, aten.all.dim,
)  # fmt: skip
def reduce(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Reductions over positions pass; a reduction over channels needs all of them."""
    dims, keep = _reduced_dims(flow, x, args, kwargs)
    labels = []
    for label in x.labels:
        if label.dims & dims:
            flow.pin(label.ids, "a statistic over channels needs all of them")
        else:
            labels.append(_reduced(label, x.shape, dims, keep))
    shape = tuple(1 if d in dims else s for d, s in enumerate(x.shape) if keep or d not in dims)
    return labelled(shape, labels)


def _reduced_dims(flow: Flow, x: Value, args: Any, kwargs: Any) -> tuple[set[int], bool]:
    schema = flow.node.target._schema  # type: ignore[union-attr]
    named = dict(zip([a.name for a in schema.arguments[1:]], args, strict=False)) | kwargs
    dim = named.get("dim")
    rank = len(x.shape)
    if dim is None or dim == []:
        return set(range(rank)), bool(named.get("keepdim", False))
    dims = [dim] if isinstance(dim, int) else dim
    return {d % rank for d in dims}, bool(named.get("keepdim", False))


def _reduced(label: Label, shape: Shape, dims: set[int], keep: bool) -> Label:
    ids = label.ids
    for d in sorted(dims, reverse=True):
        ids = ids.narrow(d, 0, 1) if keep else ids.select(d, 0)
    layout = label.layout
    if isinstance(layout, Split) and not keep:
        layout = layout.moved(lambda d: d - sum(r < d for r in dims))
    return Label(ids, layout)


@rule(
    aten.softmax.int,
    aten._softmax.default,
    aten.log_softmax.int,
    aten._log_softmax.default,
    aten.cumsum.default,
    aten.sort.default,
    aten.topk.default,
)
def along_one(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Ops along one dimension: channels along it are pinned, others pass."""
    if flow.node.target in (aten.sort.default, aten.topk.default):
        flow.pin_all(x, "is sorted")
        from edgeprune.channels.core import unlabelled

        return unlabelled(flow.node.meta["shape"])
    dim = args[0] % len(x.shape)
    kept = []
    for label in x.labels:
        if dim in label.dims:
            flow.pin(
                label.ids,
                "softmax over channels"
                if "softmax" in str(flow.node.target)
                else "a running sum over channels",
            )
        else:
            kept.append(label)
    return labelled(x.shape, kept)


@rule(aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)
def batch_norm(
    flow: Flow,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    *args: Any,
    **kwargs: Any,
) -> Value:
    """Each channel (dimension 1) by itself; the four vectors follow the channels."""
    for parameter in (weight, bias, mean, var):
        _follow(flow, x, parameter, 1, 0)
    return Value(x.shape, x.labels)


@rule(aten.instance_norm.default)
def instance_norm(
    flow: Flow,
    x: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    mean: Value | None = None,
    var: Value | None = None,
    *args: Any,
) -> Value:
    """Each channel of each sample by itself."""
    return batch_norm(flow, x, weight, bias, mean, var)


@rule(aten.layer_norm.default)
def layer_norm(
    flow: Flow,
    x: Value,
    normalized: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    *args: Any,
) -> Value:
    """Ids (..., C): the statistic runs over the kept channels only (Ba et al. 2016)."""
    if len(normalized) != 1:
        first = len(x.shape) - len(normalized)
        for label in x.labels:
            if max(label.dims) >= first:
                flow.pin(label.ids, "layer norm over several dimensions")
        for parameter in (weight, bias):
            if parameter is not None:
                flow.pin_all(parameter, "layer norm over several dimensions")
        return Value(x.shape, x.labels)
    for parameter in (weight, bias):
        _follow(flow, x, parameter, len(x.shape) - 1, 0)
    return Value(x.shape, x.labels)


@rule(aten.group_norm.default)
def group_norm(
    flow: Flow,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    *args: Any,
) -> Value:
    """Ids (N, C, *): every group keeps equally many channels (Wu & He 2018)."""
    x = Value(x.shape, tuple(flow.settle(label) for label in x.labels))
    ids, _ = flow.contract(x, 1, CROSSES)
    if ids is not None and 1 < groups < x.shape[1]:
        flow.equal_counts(list(ids.view(groups, -1)))
    for parameter in (weight, bias):
        _follow(flow, x, parameter, 1, 0)
    return Value(x.shape, x.labels)


def _follow(flow: Flow, x: Value, parameter: Value | None, dim: int, at: int) -> None:
    """A per-channel parameter follows the channels of `x` along `dim`."""
    if parameter is None:
        return
    ids = next(iter(x.varying(dim)), None)
    if ids is None:
        flow.pin_all(parameter, "belongs to channels that cannot be removed")
        return
    if ids.dims != {dim}:
        vector, _ = flow.contract(x, dim, CROSSES)
        assert vector is not None
        flow.consume(parameter, at, vector)
    else:
        flow.consume(parameter, at, ids.along(dim))


@rule(aten.zeros.default, aten.ones.default, aten.full.default, aten.empty.memory_format)
def filled(flow: Flow, size: Sequence[int], *args: Any, **kwargs: Any) -> Value:
    """A constant of one value: it can be made in any size, so it has channels of its own."""
    from edgeprune.channels.core import spread

    shape = tuple(int(s) for s in size)
    labels = [
        Label(spread(flow.fresh(s, f"dim {d}"), d, shape)) for d, s in enumerate(shape) if s > 1
    ]
    return labelled(shape, labels)


@rule(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
def filled_like(flow: Flow, x: Value, size: Sequence[int], *args: Any, **kwargs: Any) -> Value:
    """A constant of one value; only the type comes from `x`."""
    return filled(flow, size)
