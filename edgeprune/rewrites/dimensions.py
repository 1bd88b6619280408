"""Tensors of more dimensions than XNNPACK knows (`XNN_MAX_TENSOR_DIMS` in its xnnpack.h).

Windows of clips are cut out of a view with eight dimensions, which the partitioner delegates all
the same, and the program then cannot be loaded. Dimensions that move together are one: a
permutation is a few exchanges of neighbouring stretches, of four dimensions each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

aten = torch.ops.aten

MOST = 6
_VIEWS = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)


@rewrite("permutation", aten.permute.default)
def permute(x: Tensor, dims: Sequence[int]) -> Any:
    """What comes first is brought before all that is in its way, stretch by stretch."""
    if x.dim() <= MOST:
        return NotImplemented
    sizes = x.shape
    wanted, order = [d % x.dim() for d in dims], list(range(x.dim()))
    for at, dim in enumerate(wanted):
        first = order.index(dim)
        if first == at:
            continue
        last = first + 1
        while last < len(order) and order[last] == wanted[at + last - first]:
            last += 1
        parts = [order[:at], order[at:first], order[first:last], order[last:]]
        x = x.reshape([prod(sizes[d] for d in part) for part in parts]).permute(0, 2, 1, 3)
        order = [*parts[0], *parts[2], *parts[1], *parts[3]]
    return x.reshape([sizes[d] for d in wanted])


@rewrite("sum of many dimensions", aten.add.Tensor)
def add(a: Any, b: Any, *, alpha: float = 1) -> Any:
    """Neighbouring dimensions that are repeated in the same operand, or in none, are one."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or alpha != 1:
        return NotImplemented
    shape = torch.broadcast_shapes(a.shape, b.shape)
    if len(shape) <= MOST:
        return NotImplemented
    first, second = ([1] * (len(shape) - x.dim()) + list(x.shape) for x in (a, b))
    runs: list[tuple[tuple[bool, bool], int, int]] = []
    for one, other in zip(first, second, strict=True):
        if one == other == 1:
            continue
        kind = one == 1, other == 1
        if runs and runs[-1][0] == kind:
            runs[-1] = kind, runs[-1][1] * one, runs[-1][2] * other
        else:
            runs.append((kind, one, other))
    if not 0 < len(runs) <= MOST:
        return NotImplemented
    made = a.reshape([n for _, n, _ in runs]) + b.reshape([n for _, _, n in runs])
    return made.reshape(shape)


def unviewed(program: ExportedProgram) -> None:
    """Let views of views of too many dimensions in `program` (changed) be views of what those are
    of, so that nothing has that shape."""
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target not in _VIEWS:
            continue
        while _is_too_long(source := node.args[0]):
            node.replace_input_with(source, source.args[0])
            node.target = aten.reshape.default
    program.graph.eliminate_dead_code()


def _is_too_long(node: fx.Node) -> bool:
    """Whether a node holds its first argument's elements in their order in too many dimensions."""
    moves = node.op == "call_function" and node.target in (*_VIEWS, aten.clone.default)
    return moves and node.meta["val"].dim() > MOST
