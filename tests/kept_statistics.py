"""The reference for pruning across a statistic: full-size tensors, statistics over what is kept.

A masked network holds zeros where a pruned one holds nothing, and LayerNorm, softmax or a mean over
channels count those zeros. `KeptStatistics` runs the masked network at full size, but computes
every statistic that runs over removable channels on the kept ones only, and puts zeros back around
its result. It knows nothing of how a graph is rewritten: only which indices are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from edgeprune.channels.core import Value
from edgeprune.channels.resize import Remaining
from edgeprune.plans import Plan
from edgeprune.records import Graph
from edgeprune.surgery import mask, remaining

aten = torch.ops.aten


class KeptStatistics(fx.Interpreter):
    """Runs the masked twin of a pruned network, statistics over kept channels only; batch 1."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__(mask(graph, plan).program)
        self.left: Remaining = remaining(graph, plan)
        self.original = {node.name: node for node in graph.program.graph.nodes}

    def run_node(self, n: fx.Node) -> Any:
        node = self.original.get(n.name)
        if node is None:  # what zeroes a dropped branch
            return super().run_node(n)
        special = _SPECIAL.get(n.target)
        if special is not None and node in self.left.analysis.crossed:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            return special(self, node, n.target, args, kwargs)
        if n.target in _SUMS:  # what is removed may be no zero here, as exp(0) is
            for given, original in zip(n.all_input_nodes, node.all_input_nodes, strict=True):
                if isinstance(self.left.analysis.held[original], Value):
                    self.env[given] = self.env[given].where(self.kept(original), 0)
        return super().run_node(n)

    def kept(self, node: fx.Node) -> Tensor:
        """Which elements of the node's value stay."""
        value = self.left.analysis.held[node]
        stays = torch.ones(value.shape, dtype=torch.bool)
        for label in value.labels:
            stays = stays & torch.from_numpy(self.left.stays(label.ids))
        return stays

    def kept_by_part(self, node: fx.Node, dim: int) -> Tensor:
        """A 0/1 tensor that broadcasts against the node's value: 1 where an element stays."""
        value = self.left.analysis.held[node]
        assert isinstance(value, Value)
        stays = torch.ones(value.shape, dtype=torch.bool)
        for label in value.varying(dim % len(value.shape)):
            stays = stays & torch.from_numpy(self.left.stays(label.ids))
        return stays


def _compacted(
    run: KeptStatistics, node: fx.Node, x: Tensor, dim: int, op: Callable[[Tensor], Tensor]
) -> Tensor:
    """op along the last dimension on what is kept there, zeros around it; where parts keep
    different channels, each part by itself."""
    stays = run.kept_by_part(node.args[0], dim).movedim(dim, -1)
    moved = x.movedim(dim, -1)
    count = stays.sum(-1)
    most = int(count.max())
    order = stays.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[..., :most]
    assert bool(((count == most) | (count == 0)).all()), "parts keep unequal counts"
    made = op(moved.gather(-1, order))
    if made.shape[-1:] == order.shape[-1:] and made.dim() == moved.dim():
        made = torch.zeros_like(moved).scatter(-1, order, made) * stays
        return made.movedim(-1, dim)
    return made


def _layer_norm(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    x, _, weight, bias, eps, *_ = [*args, None, None, None, None][:6]
    eps = 1e-5 if eps is None else eps
    made = _compacted(
        run, node, x, -1, lambda t: torch.nn.functional.layer_norm(t, (t.size(-1),), eps=eps)
    )
    made = made if weight is None else made * weight
    return made if bias is None else made + bias


def _group_norm(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    x, groups, weight, bias, eps, *_ = [*args, None, None, None, None][:6]
    eps = 1e-5 if eps is None else eps
    stays = run.kept_by_part(node.args[0], 1).expand(x.shape).reshape(x.size(0), groups, -1)
    flat = x.reshape(x.size(0), groups, -1)
    made = torch.zeros_like(flat)
    for n in range(flat.size(0)):
        for g in range(groups):
            inside = flat[n, g][stays[n, g]]
            if inside.numel():
                scaled = (inside - inside.mean()) / (inside.var(correction=0) + eps).sqrt()
                made[n, g, stays[n, g]] = scaled
    made = made.reshape(x.shape)
    per_channel = (1, -1, *[1] * (x.dim() - 2))
    made = made if weight is None else made * weight.view(per_channel)
    return made if bias is None else made + bias.view(per_channel)


def _rms_norm(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    x, _, weight, eps, *_ = [*args, None, None, None][:5]
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    made = _compacted(
        run, node, x, -1, lambda t: t / (t.square().mean(-1, keepdim=True) + eps).sqrt()
    )
    return made if weight is None else made * weight


def _softmax(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    return _compacted(run, node, args[0], args[1] % args[0].dim(), lambda t: t.softmax(-1))


def _log_softmax(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    return _compacted(run, node, args[0], args[1] % args[0].dim(), lambda t: t.log_softmax(-1))


def _reduced(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    names = [a.name for a in op._schema.arguments]
    named = dict(zip(names, args, strict=False)) | kwargs
    x, dims = named.pop("self"), named.pop("dim")
    dims = sorted(d % x.dim() for d in ([dims] if isinstance(dims, int) else dims))
    keep = named.pop("keepdim", False)
    crossing = [d for d in dims if not run.kept_by_part(node.args[0], d).all()]
    if not crossing:
        return op(*args, **kwargs)
    assert len(crossing) == 1
    (at,) = crossing

    def reduce(t: Tensor) -> Tensor:
        rest = [d for d in range(x.dim()) if d != at]
        others = [rest.index(d) for d in dims if d != at]
        return op(t, [*others, t.dim() - 1], keepdim=False, **named)  # `at` was moved last

    made = _compacted(run, node, x, at, reduce)
    for d in dims if keep else ():
        made = made.unsqueeze(d)
    return made


def _reduced_twice(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Any:
    return tuple(
        _reduced(run, node, _Part(op, i), args, kwargs) for i in range(len(op._schema.returns))
    )


class _Part:
    """One result of an op that has several."""

    def __init__(self, op: Any, index: int) -> None:
        self._schema, self.op, self.index = op._schema, op, index

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = self.op(*args, **kwargs)[self.index]
        return made


def _batch_norm(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    """Without running statistics: over everything but dimension 1 (weights that are scaled)."""
    x, weight, bias, mean, _, _, _, eps, *_ = args
    assert mean is None
    stays = run.kept_by_part(node.args[0], 0)
    for dim in range(2, x.dim()):
        stays = stays & run.kept_by_part(node.args[0], dim)
    made = torch.zeros_like(x)
    for channel in range(x.size(1)):
        here = stays.expand(x.shape)[:, channel]
        inside = x[:, channel][here]
        scaled = (inside - inside.mean()) / (inside.var(correction=0) + eps).sqrt()
        made[:, channel][here] = scaled
    made = made * run.kept_by_part(node.args[0], 1)
    per_channel = (1, -1, *[1] * (x.dim() - 2))
    made = made if weight is None else made * weight.view(per_channel)
    return made if bias is None else made + bias.view(per_channel)


def _attention(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Tensor:
    """Keys that are gone are not looked at."""
    stays = run.kept_by_part(node.args[1], -2)
    if stays.all():
        return op(*args, **kwargs)
    reach = stays.expand(args[1].shape).any(-1).unsqueeze(-2)
    assert len(args) == 3, "keys that go in a masked attention"
    assert not kwargs.get("is_causal"), "keys that go in a causal attention"
    return op(*args, attn_mask=reach, **kwargs)


def _extreme(run: KeptStatistics, node: fx.Node, op: Any, args: Any, kwargs: Any) -> Any:
    dim, keep = args[1] % args[0].dim(), bool(args[2]) if len(args) > 2 else False
    made = _compacted(run, node, args[0], dim, lambda t: op(t, -1)[0])
    return (made.unsqueeze(dim) if keep else made), None


_SUMS = {
    aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.matmul.default, aten.bmm.default, aten.mm.default, aten.einsum.default,
    aten.baddbmm.default, aten.addmm.default, aten.scaled_dot_product_attention.default,
    aten.sum.dim_IntList, aten.linalg_vector_norm.default,
}  # fmt: skip
_SPECIAL: dict[Any, Callable[..., Tensor]] = {
    aten.layer_norm.default: _layer_norm,
    aten.group_norm.default: _group_norm,
    aten.rms_norm.default: _rms_norm,
    aten.softmax.int: _softmax,
    aten.batch_norm.default: _batch_norm,
    aten.scaled_dot_product_attention.default: _attention,
    aten.max.dim: _extreme,
    aten.min.dim: _extreme,
    aten.log_softmax.int: _log_softmax,
    aten.mean.dim: _reduced,
    aten.amax.default: _reduced,
    aten.amin.default: _reduced,
    aten.std.dim: _reduced,
    aten.var.dim: _reduced,
    aten.logsumexp.default: _reduced,
    aten.var_mean.dim: _reduced_twice,
    aten.var_mean.correction: _reduced_twice,
    aten.std_mean.dim: _reduced_twice,
    aten.std_mean.correction: _reduced_twice,
    aten.var.correction: _reduced,
    aten.std.correction: _reduced,
}
