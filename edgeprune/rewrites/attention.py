"""Attention as two batched products around a softmax.

PyTorch's own decomposition guards the softmax against rows that are masked whole, with a
comparison, a reduction and a selection over the scores (L × S for every head) that no delegate
takes. Without a mask, or with the causal one, no row is masked whole, so the guard cannot matter.
Where the mask is a constant, `unguarded` looks at it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

aten = torch.ops.aten


@rewrite("attention", aten.scaled_dot_product_attention.default)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Query (..., H, L, E), key (..., G, S, E), value (..., G, S, V) → (..., H, L, V), G dividing
    H: the queries of a group of heads that share a key are rows of one product."""
    batch, (length, width), source = query.shape[:-2], query.shape[-2:], key.shape[-2]
    lead = key.shape[:-2]
    if attn_mask is not None or dropout_p or value.shape[:-2] != lead:
        return NotImplemented
    if is_causal and length > source:
        return NotImplemented
    if batch != lead and not (enable_gqa and batch[:-1] == lead[:-1]):
        return NotImplemented
    parts = math.prod(lead)
    rows = query.reshape(parts, -1, width) * (scale if scale is not None else width**-0.5)
    scores = torch.bmm(rows, key.reshape(parts, source, width).transpose(1, 2))
    if is_causal:
        later = torch.full((length, source), -math.inf, dtype=query.dtype).triu(1)
        scores = scores.reshape(parts, -1, length, source) + later
        scores = scores.reshape(parts, -1, source)
    mixed = torch.bmm(torch.softmax(scores, -1), value.reshape(parts, source, -1))
    return mixed.reshape(*batch, length, value.shape[-1])


@rewrite("softmax", aten.softmax.int)
def softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """Over a dimension that is not the last: with the dimension moved there and back."""
    if dim in (-1, x.dim() - 1) or dtype not in (None, x.dtype) or x.dim() < 2:
        return NotImplemented
    return torch.softmax(x.transpose(dim, -1), -1).transpose(dim, -1)


def unguarded(program: ExportedProgram) -> int:
    """Take the guard away where a constant mask leaves something to see in every row: those calls
    of attention in `program` (changed) become products, sums and a softmax. Returns how many."""
    from executorch.exir.passes.constant_prop_pass import get_constant_placeholder_dict

    constants = get_constant_placeholder_dict(program)
    changed = 0
    for node in list(program.graph.nodes):
        if node.target is not aten.scaled_dot_product_attention.default:
            continue
        given = dict(zip(("query", "key", "value", "attn_mask"), node.args, strict=False))
        given.update({k: v for k, v in node.kwargs.items() if k == "attn_mask"})
        mask = constants.get(given.get("attn_mask"))
        rest = (*node.args[4:], *(v for k, v in node.kwargs.items() if k != "scale" and v))
        if mask is None or any(rest) or not _sees_something(mask):
            continue
        _write_out(program.graph, node, given, mask)
        changed += 1
    return changed


def _write_out(graph: fx.Graph, node: fx.Node, given: dict[str, fx.Node], mask: Tensor) -> None:
    query, key, value = (given[name] for name in ("query", "key", "value"))
    scale = node.kwargs.get("scale")
    if scale is None:
        scale = query.meta["val"].shape[-1] ** -0.5
    dtype = query.meta["val"].dtype
    with graph.inserting_before(node):
        scaled = graph.call_function(aten.mul.Tensor, (query, scale))
        across = graph.call_function(aten.transpose.int, (key, -2, -1))
        scores = graph.call_function(aten.matmul.default, (scaled, across))
        added: fx.Node = given["attn_mask"]
        if mask.dtype is torch.bool:
            zeros = graph.call_function(aten.zeros.default, (list(mask.shape),), {"dtype": dtype})
            hidden = graph.call_function(aten.logical_not.default, (added,))
            added = graph.call_function(aten.masked_fill.Scalar, (zeros, hidden, -math.inf))
        scores = graph.call_function(aten.add.Tensor, (scores, added))
        shares = graph.call_function(aten.softmax.int, (scores, -1))
        mixed = graph.call_function(aten.matmul.default, (shares, value))
    node.replace_all_uses_with(mixed)
    graph.erase_node(node)


def _sees_something(mask: Tensor) -> bool:
    seen = mask if mask.dtype is torch.bool else mask > -math.inf
    return bool(seen.any(-1).all())
