"""Attention whose heads lost width, in classes that scale by the width they see.

A pruned graph keeps dividing by the square root of the full head width: the products that are gone
were zero, not absent. `scaled_dot_product_attention` without a scale divides by the square root
of what is left. Multiplying the weights that make the queries by the ratio of the two makes up for
it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgeprune.records import Graph

aten = torch.ops.aten
_ATTENTION = aten.scaled_dot_product_attention.default


@dataclass(frozen=True)
class Rescaled:
    """Rows of a linear layer's tensors that make queries, and what they must be multiplied by."""

    parameters: tuple[str, ...]
    rows: Tensor
    factor: float


def rescaled_queries(graph: Graph, cut: Graph, inputs: tuple[Tensor, ...]) -> list[Rescaled]:
    """What makes up for the scale of every attention whose scale was left to its head width.

    An attention whose queries do not come from one linear layer by moving numbers only is left out.
    """
    before = {node.name: node for node in graph.program.graph.nodes}
    found = []
    for node, query, rows_from in _queries(cut, inputs):
        if before[node.name].kwargs.get("scale") is not None:
            continue
        scale, width = node.kwargs.get("scale"), query.shape[-1]
        if not isinstance(scale, float) or scale == width**-0.5:
            continue
        made = _origin(query, rows_from)
        if made is not None:
            names, rows = made
            found.append(Rescaled(names, rows, scale * width**0.5))
    return found


def rescale(state: Mapping[str, Tensor], found: list[Rescaled]) -> dict[str, Tensor]:
    """The same tensors, with the rows that make queries multiplied."""
    new = dict(state)
    for one in found:
        for name in one.parameters:
            new[name] = new[name].clone()
            new[name][one.rows] *= one.factor
    return new


Origins = list[tuple[tuple[str, ...], int, int]]
"""(parameters of a linear layer, the number of its first row, one past its last)"""


def _queries(cut: Graph, inputs: tuple[Tensor, ...]) -> Iterator[tuple[fx.Node, Tensor, Origins]]:
    """Every attention with its queries, where linear layers give the numbers of their rows."""
    seen: list[tuple[fx.Node, Tensor]] = []
    origins: Origins = []

    class Numbered(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.target is aten.linear.default:
                first = origins[-1][2] if origins else 1
                last = first + result.shape[-1]
                names = tuple(str(a.target) for a in n.args[1:] if isinstance(a, fx.Node))
                origins.append((names, first, last))
                rows = torch.arange(first, last, dtype=result.dtype, device=result.device)
                return rows.expand(result.shape).contiguous()
            if n.target is _ATTENTION:
                assert isinstance(n.args[0], fx.Node)
                seen.append((n, self.env[n.args[0]]))
            return result

    with torch.no_grad():
        Numbered(cut.program, garbage_collect_values=False).run(*inputs)
    for node, query in seen:
        yield node, query, origins


def _origin(query: Tensor, origins: Origins) -> tuple[tuple[str, ...], Tensor] | None:
    """The layer whose rows the numbers are, and which; None where they are no such thing."""
    numbers = query.unique()
    for names, first, last in origins:
        if bool(((numbers >= first) & (numbers < last)).all()):
            rows = numbers.long() - first
            whole = torch.equal(numbers, numbers.round())
            return (names, rows) if whole and len(rows) == query[0].select(-2, 0).numel() else None
    return None
