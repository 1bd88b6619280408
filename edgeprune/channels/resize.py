"""The sizes that a graph carries as constants, after channels are gone.

Reshapes, slices, splits, paddings, group counts and the like follow from what is left of each
node's ids. A function per op: old arguments in, new arguments out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeprune.channels.analysis import Analysis
from edgeprune.channels.core import Call, Value, as_captured, aten
from edgeprune.graph import open_dims

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Resize = Callable[["Remaining", fx.Node, tuple[Any, ...], dict[str, Any]], Arguments]
_RESIZES: dict[Any, Resize] = {}
_SPLITS = (
    aten.split.Tensor, aten.split_with_sizes.default, aten.split.sizes, aten.chunk.default,
    aten.tensor_split.indices, aten.tensor_split.sections,
)  # fmt: skip


@dataclass(frozen=True)
class Remaining:
    """What is left: `alive[class]` says whether the class stays."""

    analysis: Analysis
    alive: NDArray[np.bool_]

    def stays(self, ids: Tensor) -> NDArray[np.bool_]:
        """Which elements stay: those whose class does, and whose part does."""
        index = ids.numpy()
        found: NDArray[np.bool_] = (
            self.alive[self.analysis.classes[index]] & self.alive[self.analysis.owners[index]]
        )
        return found

    def value(self, node: Any) -> Value:
        """The full-size value that a node holds."""
        held = self.analysis.held[node]
        assert isinstance(held, Value)
        return held

    def along(self, node: Any, dim: int) -> NDArray[np.bool_]:
        """Which indices along a dimension stay."""
        value = self.value(node)
        dim %= len(value.shape)
        stays = np.ones(value.shape[dim], dtype=bool)
        for label in value.varying(dim):
            split = label.split
            if split is not None and split.axis == dim:
                rows = (self.stays(part.ids()) for part in split.parts)
                stays &= next((row for row in rows if row.any()), False)
                continue
            index = tuple(slice(None) if d in label.dims else 0 for d in range(len(value.shape)))
            axis = sorted(label.dims).index(dim)
            found = self.stays(label.ids[index])
            stays &= found.any(axis=tuple(a for a in range(found.ndim) if a != axis))
        return stays

    def size(self, node: Any, dim: int) -> int:
        """The size that is left along a dimension."""
        return int(self.along(node, dim).sum())

    def sizes(self, node: Any, given: Sequence[Any]) -> list[Any]:
        """A size list of the node's output, with numbers replaced by what is left.

        A size that is computed from the batch, and holds channels beside it, is left to be
        inferred; a size that was inferred before and does not depend on the batch is then told.
        """
        full = self.value(node).shape
        left = [self.size(node, d) for d in range(len(given))]
        computed = [not isinstance(size, int) for size in given]
        shrunk = [c and left[d] != full[d] for d, c in enumerate(computed)]
        told = any(shrunk)
        found = []
        for d, size in enumerate(given):
            if computed[d]:
                found.append(-1 if shrunk[d] else size)
            elif size == -1 and not (told and d not in open_dims(node)):
                found.append(-1)
            else:
                found.append(left[d])
        return found


def resize(*ops: Any) -> Callable[[Resize], Resize]:
    """Register how an op's arguments follow; a second registration raises."""

    def register(function: Resize) -> Resize:
        for op in ops:
            if op in _RESIZES:
                raise ValueError(f"{op} is already registered")
            _RESIZES[op] = function
        return function

    return register


def resized(left: Remaining, node: fx.Node) -> Call:
    """What a node calls for what is left; ops that carry no sizes keep their arguments."""
    call = as_captured(node)
    function = _RESIZES.get(node.target)
    if function is None:
        return call
    args, kwargs = function(left, node, call.args, call.kwargs)
    target = call.target
    if target in _SPLITS and args is not call.args:
        target = aten.split_with_sizes.default
    return Call(target, args, kwargs)


@resize(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default)
def to_size(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    return (args[0], left.sizes(node, args[1])), kwargs


@resize(aten.zeros.default, aten.ones.default, aten.full.default, aten.empty.memory_format)
def factory(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    return (left.sizes(node, args[0]), *args[1:]), kwargs


@resize(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
def factory_like(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    return (args[0], left.sizes(node, args[1]), *args[2:]), kwargs


@resize(aten.unflatten.int)
def unflatten(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    x, dim, sizes = args[:3]
    dim %= len(left.value(x).shape)
    full = left.value(node).shape
    inner = [
        size
        if size == -1 or left.size(node, dim + i) == full[dim + i]
        else left.size(node, dim + i)
        for i, size in enumerate(sizes)
    ]
    return (x, dim, inner), kwargs


@resize(aten.slice.Tensor)
def slice_(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    x, dim, start, end, step = [*args, None, None, None, None][:5]
    dim = kwargs.get("dim", dim) or 0
    if not left.value(x).varying(dim % len(left.value(x).shape)) or (step or 1) != 1:
        return args, kwargs
    stays = left.along(x, dim)
    if stays.all():  # the length may hold the batch, which is more than one elsewhere
        return args, kwargs
    positions = range(len(stays))[start:end]
    first = int(stays[: positions.start].sum())
    last = first + int(stays[positions.start : positions.stop].sum())
    # to the end stays to the end: a length that holds the batch is known for one sample only
    to_the_end = positions.stop == len(stays) and (
        end != len(stays) or dim % len(left.value(x).shape) in open_dims(x)
    )
    return (x, dim, first, end if to_the_end else last), {}


@resize(aten.select.int)
def select(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    """The position that is picked moves up by what is gone before it."""
    x, dim, index = args
    stays = left.along(x, dim)
    return (x, dim, int(stays[: index % len(stays)].sum())), kwargs


@resize(aten.narrow.default)
def narrow(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    x, dim, start, length = args
    stays = left.along(x, dim)
    first = int(stays[:start].sum())
    return (x, dim, first, int(stays[start : start + length].sum())), kwargs


@resize(*_SPLITS)
def split(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    """Pieces may come out unequal: always by explicit sizes."""
    x = args[0]
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if not left.value(x).varying(dim % len(left.value(x).shape)):
        return args, kwargs
    stays = left.along(x, dim)
    if stays.all():
        return args, kwargs
    sizes = [int(piece.sum()) for piece in np.split(stays, _borders(left, node, dim))]
    return (x, sizes, dim), {}


def _borders(left: Remaining, node: fx.Node, dim: int) -> list[int]:
    lengths = [piece.shape[dim] for piece in left.analysis.held[node]]
    return [int(b) for b in np.cumsum(lengths)[:-1]]


@resize(aten.pad.default, aten.constant_pad_nd.default)
def pad(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    x, padding = args[0], list(args[1])
    rank = len(left.value(x).shape)
    for i in range(len(padding) // 2):
        dim = rank - 1 - i
        for j, side in enumerate(("before", "after")):
            ids = left.analysis.made.get((node.name, f"{dim} {side} 1"))
            if ids is not None:
                padding[2 * i + j] = int(left.stays(ids).sum())
    return (x, padding, *args[2:]), kwargs


@resize(aten.layer_norm.default, aten.rms_norm.default)
def layer_norm(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    if len(args[1]) != 1:
        return args, kwargs
    return (args[0], [left.size(args[0], -1)], *args[2:]), kwargs


@resize(aten.group_norm.default)
def group_norm(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    return (args[0], _groups(left, args[0], args[1]), *args[2:]), kwargs


@resize(
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv1d.padding,
    aten.conv2d.padding, aten.conv3d.padding, aten.conv_transpose1d.default,
    aten.conv_transpose2d.input, aten.conv_transpose3d.input,
)  # fmt: skip
def convolution(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    """Groups that lost all their channels are gone."""
    if len(args) > 6:
        return (*args[:6], _groups(left, args[0], args[6]), *args[7:]), kwargs
    if "groups" in kwargs:
        return args, {**kwargs, "groups": _groups(left, args[0], kwargs["groups"])}
    return args, kwargs


def _groups(left: Remaining, x: Any, groups: int) -> int:
    if groups == 1:
        return 1
    return int(left.along(x, 1).reshape(groups, -1).any(axis=1).sum())


@resize(aten.scaled_dot_product_attention.default)
def attention(left: Remaining, node: fx.Node, args: Any, kwargs: Any) -> Arguments:
    """The scale stays the one of the full head width: removed products were zero, not absent."""
    if kwargs.get("scale") is None:
        width = left.value(args[0]).shape[-1]
        kwargs = {**kwargs, "scale": width**-0.5}
    return args, kwargs
