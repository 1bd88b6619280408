"""Operators that only move elements, in the few forms that delegates take: views, slices, joins.

An operator that only renames dimensions is a view; one that picks elements is a slice, or, with a
step, a view and a slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

aten = torch.ops.aten

BROADCASTING = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
"""Operators that repeat the smaller operand by themselves."""


@rewrite("expand", aten.expand.default)
def expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Any:
    """To the shape it has: nothing."""
    if len(size) != x.dim() or any(s not in (-1, n) for s, n in zip(size, x.shape, strict=True)):
        return NotImplemented
    return x.view(x.shape)


@rewrite("view", aten.unsqueeze.default)
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """A view."""
    at = dim % (x.dim() + 1)
    return x.reshape(*x.shape[:at], 1, *x.shape[at:])


@rewrite("view", aten.squeeze.dim, aten.squeeze.dims)
def squeeze(x: Tensor, dim: int | Sequence[int]) -> Tensor:
    """A view."""
    dims = {d % max(x.dim(), 1) for d in ([dim] if isinstance(dim, int) else dim)}
    return x.reshape([s for d, s in enumerate(x.shape) if d not in dims or s != 1])


@rewrite("view", aten.squeeze.default)
def squeeze_all(x: Tensor) -> Tensor:
    """A view."""
    return x.reshape([s for s in x.shape if s != 1])


@rewrite("slice", aten.select.int)
def select(x: Tensor, dim: int, index: int) -> Tensor:
    """A slice of one, and a view."""
    at = dim % x.dim()
    first = index % x.shape[at]
    piece: Tensor = aten.slice.Tensor(x, at, first, first + 1)
    return piece.reshape(*x.shape[:at], *x.shape[at + 1 :])


@rewrite("slice", aten.slice.Tensor)
def strided(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """Every `step`-th: the first of each stretch of `step`, padded to whole stretches."""
    if step == 1 or not x.is_floating_point():
        return NotImplemented
    at, length = dim % x.dim(), x.shape[dim]
    first, last, _ = slice(start, end).indices(length)
    number = -(-(last - first) // step)
    if number <= 0:
        return NotImplemented
    piece = aten.slice.Tensor(x, at, first, min(length, first + number * step))
    if missing := number * step - piece.shape[at]:
        piece = torch.constant_pad_nd(piece, [0, 0] * (x.dim() - 1 - at) + [0, missing])
    stretches = piece.reshape(*x.shape[:at], number, step, *x.shape[at + 1 :])
    return aten.slice.Tensor(stretches, at + 1, 0, 1).reshape(
        *x.shape[:at], number, *x.shape[at + 1 :]
    )


@rewrite("slice", aten.split.Tensor)
def split(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """Slices."""
    length = x.shape[dim]
    return [
        aten.slice.Tensor(x, dim, first, min(length, first + size))
        for first in range(0, length, size)
    ]


@rewrite("slice", aten.split_with_sizes.default)
def split_with_sizes(x: Tensor, sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    """Slices."""
    pieces, first = [], 0
    for size in sizes:
        pieces.append(aten.slice.Tensor(x, dim, first, first + size))
        first += size
    return pieces


@rewrite("slice", aten.unbind.int)
def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    """Slices of one, and views."""
    return [select(x, dim, index) for index in range(x.shape[dim])]


@rewrite("join", aten.roll.default)
def roll(x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    """What is pushed over the edge, then the rest."""
    if not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        length = x.shape[dim]
        if at := -shift % length:
            ends = aten.slice.Tensor(x, dim, at, length), aten.slice.Tensor(x, dim, 0, at)
            x = torch.cat(ends, dim)
    return x


@rewrite("join", aten.cat.default)
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """Of one tensor: that tensor. The delegate joins two at least."""
    return tensors[0].view(tensors[0].shape) if len(tensors) == 1 else NotImplemented


@rewrite("join", aten.stack.default)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """Views, joined; a tensor joined to itself is no join that the delegate takes."""
    if len(tensors) < 2 or len({id(x) for x in tensors}) < len(tensors):
        return NotImplemented
    at = dim % (tensors[0].dim() + 1)
    return torch.cat([unsqueeze(x, at) for x in tensors], at)


@rewrite("pixel shuffle", aten.pixel_shuffle.default)
def pixel_shuffle(x: Tensor, factor: int) -> Any:
    """(N, C·r², H, W) → (N, C, H·r, W·r)."""
    if x.dim() != 4:
        return NotImplemented
    n, c, h, w = x.shape
    c //= factor * factor
    parts = x.reshape(n, c, factor, factor, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c, h * factor, w * factor)


def unexpanded(program: ExportedProgram) -> int:
    """Let operators that broadcast read what was expanded for them in `program` (changed), which
    saves the copy. Returns how often."""
    changed = 0
    for node in program.graph.find_nodes(op="call_function", target=aten.expand.default):
        small, full = node.args[0], tuple(node.meta["val"].shape)
        for user in list(node.users):
            if user.target in BROADCASTING and _stays(user, node, full):
                user.replace_input_with(node, small)
                changed += 1
    program.graph.eliminate_dead_code()
    return changed


def _stays(user: fx.Node, expanded: fx.Node, shape: tuple[int, ...]) -> bool:
    """Whether the other operand of `user` has the full shape by itself."""
    others = [a for a in user.args[:2] if a is not expanded]
    return len(others) == 1 and tuple(_shape(others[0])) == shape


def _shape(value: Any) -> Sequence[int]:
    meta = getattr(value, "meta", {})
    return meta["val"].shape if "val" in meta else ()


def reshaped(program: ExportedProgram) -> None:
    """Let every view in `program` (changed) copy where it must: a rewrite may leave its result in
    another order than the operator did, and views of that would be refused."""
    for node in program.graph.find_nodes(op="call_function", target=aten.view.default):
        node.target = aten.reshape.default
