"""Between measured kernels: how the time of one kernel follows from those of its family.

A family is all kernels that differ only in channels. Convolutions and linears have two coordinates
(channels in, channels out) and are measured on a small rectangular grid; linears of which rows go
too have three, and products of two tensors four (how many, rows, inner, columns); others have one.
Depthwise convolutions have one, in a family for channels that fill whole lines of the cache and
another for those that do not.

Between points the time is linear, except that output channels come in tiles: 17 channels cost what
a whole tile more costs, so a coordinate is first rounded up to the tile (never past the next
point).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from edgeprune.records import KernelKey

Family = tuple[object, ...]
Point = tuple[int, ...]

_FLAT = frozenset(
    (
        *("add", "sub", "mul", "div", "maximum", "minimum", "clamp", "hardswish", "sigmoid"),
        *("gelu", "tanh", "abs", "neg", "square", "sqrt", "rsqrt", "exp", "log", "floor", "ceil"),
        *("leaky_relu", "convert"),
    )
)
_SMALLEST_US = 0.02
CACHE_LINE = 16
"""How many fp32 numbers lie on one line of the cache: 64 bytes, on all processors we know of."""


def aligned(key: KernelKey) -> bool:
    """Whether all pixels of a depthwise convolution's output begin at a line of the cache.

    Where they do not, its loads and stores straddle lines, and it takes up to 40 % more than with
    the next channels that fill them. Matrix products pack what they read and show no such thing.
    """
    return int(dict(key.attrs)["out_channels"]) % CACHE_LINE == 0


def canonical(key: KernelKey) -> KernelKey:
    """The kernel to measure in the place of `key`: the same work, named the same way everywhere.

    Elementwise kernels on tensors of one shape depend on the number of elements only, and
    concatenations on rows and row lengths: with shapes flattened to that, a network's many kernels
    of one kind share their measurements.
    """
    attrs = tuple((name, value) for name, value in key.attrs if name != "layout")
    layout = dict(key.attrs).get("layout")
    if key.op in _FLAT and len(set(key.shapes)) == 1:
        return KernelKey(key.op, ((prod(key.shapes[0]),),) * len(key.shapes), attrs)
    if key.op == "cat":
        axis = dict(key.attrs)["axis"]
        if layout == "nhwc":
            rows = prod(key.shapes[0]) // key.shapes[0][axis] if axis == 1 else 1
        else:
            rows = prod(key.shapes[0][:axis])
        lengths = [prod(shape) // rows for shape in key.shapes]
        kept = tuple((name, value) for name, value in attrs if name == "dtype")
        return KernelKey("cat", tuple((rows, n) for n in lengths), (("axis", 1), *kept))
    if key.op == "softmax":
        length = key.shapes[0][-1]
        return KernelKey("softmax", ((prod(key.shapes[0]) // length, length),))
    if key.op == "bmm":
        (*_, rows, inner), (*_, columns) = key.shapes
        batch = prod(key.shapes[0][:-2])
        return KernelKey("bmm", ((batch, rows, inner), (batch, inner, columns)))
    return key


def place(key: KernelKey) -> tuple[Family, Point]:
    """The family of a canonical key, and where in it the key lies."""
    return homes(key)[0]


def homes(key: KernelKey) -> tuple[tuple[Family, Point], ...]:
    """The families that can tell the time of a canonical key, the best first, and its places."""
    if key.op == "dwconv":
        return _depthwise(key)
    return (_place(key), rows_too(key)) if key.op == "linear" else (_place(key),)


def _depthwise(key: KernelKey) -> tuple[tuple[Family, Point], ...]:
    attrs = dict(key.attrs)
    channels, out = key.shapes[0][1], attrs.pop("out_channels")
    attrs.pop("groups")
    rest = sorted(attrs.items())
    # Of a single input channel, only the outputs can become fewer.
    single: tuple[Family, Point] = (key.op, "multiplier", key.shapes[0][2:], *rest), (out,)
    several: list[tuple[Family, Point]] = [
        ((key.op, key.shapes[0][2:], out // channels, filled, *rest), (channels,))
        for filled in (aligned(key), not aligned(key))
    ]
    if channels > 1:
        return tuple(several)
    return (single, *several) if out > 1 else (*several, single)


def rows_too(key: KernelKey) -> tuple[Family, Point]:
    """Family and place of a linear of which rows go as well: those that take means over positions
    have a row for each channel."""
    attrs = dict(key.attrs)
    *rows, inner = key.shapes[0]
    out = attrs.pop("out_channels")
    return (key.op, "rows", *sorted(attrs.items())), (prod(rows), inner, out)


def _place(key: KernelKey) -> tuple[Family, Point]:
    attrs = dict(key.attrs)
    first = key.shapes[0]
    if key.op in ("conv", "conv_transpose"):
        out = attrs.pop("out_channels")
        return (key.op, first[2:], *sorted(attrs.items())), (first[1], out)
    if key.op == "linear":
        out = attrs.pop("out_channels")
        return (key.op, first[:-1], *sorted(attrs.items())), (first[-1], out)
    if key.op in ("max_pool", "avg_pool", "global_avg_pool"):
        return (key.op, first[2:], *key.attrs), (first[1],)
    if key.op == "cat":
        point = (sum(shape[1] for shape in key.shapes),)
        return (key.op, len(key.shapes), first[0], attrs.get("dtype")), point
    if key.op == "softmax":
        return (key.op, first[1]), (first[0],)
    if key.op == "bmm":
        return (key.op,), (*first, key.shapes[1][-1])
    if key.op == "transpose" and attrs["perm"] in ((0, 2, 3, 1), (0, 3, 1, 2)):
        channel = 1 if attrs["perm"][1] == 2 else 3
        rest = tuple(size for d, size in enumerate(first) if d != channel)
        return (key.op, attrs["perm"], rest, attrs.get("dtype")), (first[channel],)
    if key.op.startswith("portable:"):
        return (key.op, attrs["call"]), (max(prod(shape) for shape in key.shapes),)
    point = (sum(prod(shape) for shape in key.shapes),)
    if len(key.shapes) == 1:  # alone, nothing is broadcast: a head of one channel is like any other
        return (key.op, (), *key.attrs), point
    spread = tuple(
        tuple(size == 1 for size in shape) if len(shape) > 1 else () for shape in key.shapes
    )
    return (key.op, spread, *key.attrs), point


@dataclass(frozen=True)
class Curve:
    """Times (µs) on a full rectangular grid of one coordinate or more."""

    axes: tuple[tuple[int, ...], ...]
    values: Mapping[Point, float]
    tiles: tuple[int, ...]

    @property
    def volume(self) -> int:
        """How much the grid covers: the smallest that holds a point is the one to ask."""
        return prod(axis[-1] for axis in self.axes)

    def covers(self, point: Point) -> bool:
        """Whether `point` lies at or below the upper corner, and on what was not varied."""
        return all(
            x <= axis[-1] if len(axis) > 1 else x == axis[0]
            for x, axis in zip(point, self.axes, strict=True)
        )

    def at(self, point: Point) -> float:
        """µs at `point`; outside the grid the nearest two points are continued."""
        if point in self.values:
            return self.values[point]
        sides = [
            _between(axis, _rounded(x, axis, tile))
            for x, axis, tile in zip(point, self.axes, self.tiles, strict=True)
        ]
        total = 0.0
        for corner in product(*sides):
            weight = prod(w for _, w in corner)
            if weight:
                total += weight * self.values[tuple(x for x, _ in corner)]
        return max(total, _SMALLEST_US)


def _rounded(x: int, axis: Sequence[int], tile: int) -> int:
    up = -(-x // tile) * tile
    following = bisect_left(axis, x)
    return min(up, axis[following]) if following < len(axis) else up


def _between(axis: Sequence[int], x: int) -> tuple[tuple[int, float], ...]:
    """The two grid points around `x` with their weights (negative where `x` is outside)."""
    if len(axis) == 1:
        # One point only: the coordinate is constant, or time is in proportion to it.
        return ((axis[0], x / axis[0]),)
    i = min(max(bisect_left(axis, x), 1), len(axis) - 1)
    low, high = axis[i - 1], axis[i]
    share = (x - low) / (high - low)
    return ((low, 1 - share), (high, share))
