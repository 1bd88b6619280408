"""Ops that reduce, pool, resize or normalise: what crosses channels, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgeprune.channels.contraction import CROSSES, resized
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
from edgeprune.channels.parts import beside

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
    aten.replication_pad1d.default, aten.replication_pad2d.default,
)  # fmt: skip
_POOLS_WITH_INDICES = (
    aten.max_pool2d_with_indices.default, aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
)  # fmt: skip


@rule(*_POOLS)
def pool(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Positions slide or resize, each channel by itself (N, C, *)."""
    shape: Shape = flow.node.meta["shape"]
    shape = (*x.shape[:2], *shape[2:])
    slid = set(range(2, len(shape)))
    labels = []
    for label in x.labels:
        if label.dims & slid and 1 in label.dims and label.split is None:
            label = _everywhere(flow, label, slid)
        if label.dims & slid:
            flow.pin(label.ids, "varies over positions that the op slides over")
            continue
        labels.append(resized(label, shape, slid))
    return labelled(shape, labels)


def _everywhere(flow: Flow, label: Label, positions: set[int]) -> Label:
    """A label whose channels are tied over all positions (a linear layer that makes a map)."""
    label = flow.settle(label)
    first = label.ids
    for d in positions:
        first = first.narrow(d, 0, 1)
    first = first.expand(label.ids.shape)
    flow.unite(label.ids, first)
    return Label(first)


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


def crosses(flow: Flow, label: Label) -> None:
    """A statistic over the label's channels runs over those that are kept."""
    flow.crosses(label.ids, within=label.split is not None)


def summed(flow: Flow, x: Value, dims: set[int], keep: bool) -> Value:
    """`x` with `dims` summed away. What is summed over is gone; owners of parts whose insides are
    summed over stay; parts that are added to each other are tied."""
    labels: list[Label] = []
    for label in x.labels:
        split = label.split
        if split is not None and split.axis in dims and not dims & set(split.axes):
            # labels beside this one say as much of the same parts
            if not any(beside(label, other) and not other.dims & dims for other in x.labels):
                labels += owners_of(label)
        elif not label.dims & dims:
            labels.append(label)
        elif label.dims - dims:
            label = flow.settle(label)
            first = label.ids
            for d in dims:
                first = first.narrow(d, 0, 1)
            flow.unite(label.ids, first.expand(x.shape))
            labels.append(Label(first.expand(x.shape)))
    shape = tuple(1 if d in dims else s for d, s in enumerate(x.shape) if keep or d not in dims)
    return labelled(shape, [_reduced(label, dims, keep) for label in labels])


def _reduced(label: Label, dims: set[int], keep: bool) -> Label:
    def op(ids: Tensor) -> Tensor:
        for d in sorted(dims, reverse=True):
            ids = ids.narrow(d, 0, 1) if keep else ids.select(d, 0)
        return ids

    split = label.split
    if split is None:
        return Label(op(label.ids), label.layout)
    axis = split.axis if keep else split.axis - sum(d < split.axis for d in dims)
    return Label(op(label.ids), split.moved(op, axis))


@rule(
    aten.sum.dim_IntList, aten.sum.default, aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim
)
def reduce_sum(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Sums: what is removed was zero."""
    dims, keep = _reduced_dims(flow, x, args, kwargs)
    return summed(flow, x, dims, keep)


@rule(
    aten.mean.dim, aten.mean.default, aten.amax.default, aten.amin.default, aten.std.correction,
    aten.var.correction, aten.std.dim, aten.var.dim, aten.std.default, aten.var.default,
    aten.logsumexp.default,
)  # fmt: skip
def reduce(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A statistic over positions passes; over channels it is one over the kept ones."""
    dims, keep = _reduced_dims(flow, x, args, kwargs)
    for label in x.labels:
        if label.dims & dims:
            crosses(flow, label)
    return summed(flow, x, dims, keep)


@rule(
    aten.var_mean.correction, aten.std_mean.correction, aten.var_mean.dim, aten.std_mean.dim,
    aten.var_mean.default, aten.std_mean.default,
)  # fmt: skip
def reduce_twice(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> tuple[Value, ...]:
    made = reduce(flow, x, *args, **kwargs)
    return made, made


@rule(aten.max.dim, aten.min.dim)
def extremes(flow: Flow, x: Value, dim: int, keep: bool = False) -> tuple[Value, ...]:
    """The extreme, and where it is: if anybody asks for that, channels keep their numbers."""
    dims = {dim % len(x.shape)}
    if any(user.args[1] == 1 for user in flow.node.users):
        return (_needing_all(flow, x, dims, keep),) * 2
    for label in x.labels:
        if label.dims & dims:
            crosses(flow, label)
    return (summed(flow, x, dims, keep),) * 2


@rule(aten.median.dim, aten.nanmedian.dim, aten.mode.default)
def ranked(flow: Flow, x: Value, dim: int = -1, keep: bool = False) -> tuple[Value, ...]:
    """A middle or frequent value and where it is; among channels their numbers must stay."""
    return (_needing_all(flow, x, {dim % len(x.shape)}, keep),) * 2


@rule(aten.argmax.default, aten.argmin.default, aten.prod.dim_int, aten.any.dim, aten.all.dim)
def reduce_all(flow: Flow, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Over channels these need every one of them."""
    return _needing_all(flow, x, *_reduced_dims(flow, x, args, kwargs))


def _needing_all(flow: Flow, x: Value, dims: set[int], keep: bool) -> Value:
    for label in x.labels:
        if label.dims & dims:
            flow.pin(label.ids, "needs every channel, by its number or its value")
    return summed(flow, x, dims, keep)


def _reduced_dims(flow: Flow, x: Value, args: Any, kwargs: Any) -> tuple[set[int], bool]:
    schema = flow.node.target._schema  # type: ignore[union-attr]
    named = dict(zip([a.name for a in schema.arguments[1:]], args, strict=False)) | kwargs
    dim = named.get("dim")
    rank = len(x.shape)
    if dim is None or dim == []:
        return set(range(rank)), bool(named.get("keepdim", False))
    dims = [dim] if isinstance(dim, int) else dim
    return {d % rank for d in dims}, bool(named.get("keepdim", False))


@rule(
    aten.softmax.int,
    aten._softmax.default,
    aten._safe_softmax.default,
    aten.log_softmax.int,
    aten._log_softmax.default,
)
def softmax(flow: Flow, x: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """Over positions each by itself; over channels it is one over the kept ones."""
    for label in x.varying(dim % len(x.shape)):
        crosses(flow, label)
    return along_one(flow, x, dim)


@rule(aten.cumsum.default)
def along_one(flow: Flow, x: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """Ops along one dimension: parts that they run across are tied."""
    dim %= len(x.shape)
    kept = []
    for label in x.labels:
        split = label.split
        if dim in label.dims and len(label.dims) > 1 and (split is None or split.axis != dim):
            label = flow.settle(label)
            first = label.ids.narrow(dim, 0, 1).expand(x.shape)
            flow.unite(label.ids, first)
            label = Label(first)
        kept.append(label)
    return labelled(x.shape, kept)


@rule(aten.cumprod.default, aten.logcumsumexp.default, aten.cummax.default, aten.cummin.default)
def along_all(flow: Flow, x: Value, dim: int, **kwargs: Any) -> Value | tuple[Value, ...]:
    """Along positions each channel by itself; along channels these need every one of them."""
    for label in x.varying(dim % len(x.shape)):
        flow.pin(label.ids, "needs every channel, by its number or its value")
    several = isinstance(flow.node.meta["shape"][0], tuple)
    made = Value(x.shape, x.labels)
    return (made, made) if several else made


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
    for label in x.labels if mean is None else ():
        if label.dims - {1}:
            crosses(flow, label)
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
    for label in x.varying(len(x.shape) - 1):
        crosses(flow, label)
    for parameter in (weight, bias):
        _follow(flow, x, parameter, len(x.shape) - 1, 0)
    return Value(x.shape, x.labels)


@rule(aten.rms_norm.default)
def rms_norm(
    flow: Flow, x: Value, normalized: Sequence[int], weight: Value | None = None, *args: Any
) -> Value:
    """Ids (..., C): the mean square runs over the kept channels only (Zhang & Sennrich 2019)."""
    return layer_norm(flow, x, normalized, weight)


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
    for label in x.labels if groups < x.shape[1] else ():
        crosses(flow, label)
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
    given: Any = next((a for a in flow.node.args if isinstance(a, list | tuple)), ())
    shape = tuple(int(s) for s in size)
    labels = [
        Label(spread(flow.fresh(s, f"dim {d}"), d, shape))
        for d, s in enumerate(shape)
        if s > 1 and isinstance(given[d], int)
    ]
    return labelled(shape, labels)


@rule(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
def filled_like(flow: Flow, x: Value, size: Sequence[int], *args: Any, **kwargs: Any) -> Value:
    """A constant of one value; only the type comes from `x`."""
    return filled(flow, size)
