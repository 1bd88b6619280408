"""Weight norm → the ops it stands for.

`_weight_norm(v, g)` is `g v / |v|` (Salimans & Kingma 2016), not a number where a filter is all
zeros. Written out, with a norm that is at least the smallest number there is, a filter of zeros
gives zeros, every op has a rule, and it trains as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from edgeprune.rewriting import call

aten = torch.ops.aten


def write_out(graph: fx.Graph) -> None:
    """Replace every `aten._weight_norm` in `graph`."""
    for node in list(graph.nodes):
        if node.target is not aten._weight_norm.default:
            continue
        v, g = node.args[:2]
        dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        with graph.inserting_before(node):
            made = _scaled(graph, node, v, g, dim)
        node.replace_all_uses_with(made)
        graph.erase_node(node)


def _scaled(graph: fx.Graph, node: fx.Node, v: Any, g: Any, dim: Any) -> fx.Node:
    value = v.meta["val"]
    dims = [d for d in range(value.dim()) if dim == -1 or d != dim % value.dim()]
    norm = call(graph, aten.linalg_vector_norm.default, v, 2, dims, True, like=node)
    safe = call(graph, aten.clamp_min.default, norm, torch.finfo(value.dtype).tiny, like=node)
    share = call(graph, aten.div.Tensor, g, safe, like=node)
    return call(graph, aten.mul.Tensor, v, share, like=node)
