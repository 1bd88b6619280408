"""Which kernels to measure so that any widths of a network can be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm

from edgeprune.cost.curves import (
    CACHE_LINE,
    Curve,
    Family,
    Point,
    aligned,
    canonical,
    place,
    rows_too,
)
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.xnnpack_nodes import WEIGHTED
from edgeprune.records import Extent, Kernel, KernelKey

_EIGHTHS = tuple(Fraction(i, 8) for i in range(1, 9))
_SIXTEENTHS = tuple(Fraction(i, 16) for i in range(1, 17))
# Time is close to a line in the input channels, so fewer points do there.
_INPUT_SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1))
_FEW_SHARES = (Fraction(1, 4), Fraction(1, 2), Fraction(1))

_Way = tuple[Extent | int, Sequence[Fraction], int]
"""How a coordinate varies: its size by width, the shares of it to measure, its tile."""


@dataclass(frozen=True)
class Tiles:
    """How many output channels are computed at a time, by kind of convolution."""

    pointwise: int
    depthwise: int

    def of(self, op: str) -> int:
        """The tile along the output channels of `op`; 1 where the time has no steps."""
        if op == "dwconv":
            return self.depthwise
        return self.pointwise if op in WEIGHTED else 1


@dataclass(frozen=True)
class Grid:
    """The points of one kernel at all widths, as keys to measure, before they are measured."""

    family: Family
    axes: tuple[tuple[int, ...], ...]
    keys: Mapping[Point, KernelKey]
    tiles: tuple[int, ...]

    def curve(self, times: Mapping[KernelKey, float]) -> Curve | None:
        """The grid with its measurements; None where one is missing."""
        if any(key not in times for key in self.keys.values()):
            return None
        return Curve(self.axes, {p: times[key] for p, key in self.keys.items()}, self.tiles)


def grids(
    kernels: Iterable[Kernel],
    full: Mapping[str, int],
    tiles: Tiles,
    finer: frozenset[Family] = frozenset(),
) -> tuple[Grid, ...]:
    """The grids that `kernels` need, `full` being the full widths; equal ones once.

    Families in `finer` have more points: along the inputs, where there are two ways to go.
    """
    found: dict[object, Grid] = {}
    lines: dict[Family, dict[int, KernelKey]] = defaultdict(dict)
    for kernel in kernels:
        if kernel.op == "linear" and _varying(kernel.shapes[0][:-1]).groups:
            grid = _rows(kernel, full, tiles)
            found.setdefault((grid.family, grid.axes), grid)
            continue
        if kernel.op in WEIGHTED and kernel.op != "dwconv" and not _counts_groups(kernel):
            grid = _rectangle(kernel, full, tiles, finer)
            found.setdefault((grid.family, grid.axes), grid)
            continue
        if kernel.op == "bmm":
            grid = _matrices(kernel, full, tiles)
            found.setdefault((grid.family, grid.axes), grid)
            continue
        keys = _line(kernel, full, tiles, _EIGHTHS)
        if any(_on_a_line(key)[0] in finer for key in keys):
            keys = _line(kernel, full, tiles, _SIXTEENTHS)
        for key in keys:
            family, coordinate = _on_a_line(key)
            lines[family].setdefault(coordinate, key)
    for family, points in lines.items():
        axis = tuple(sorted(points))
        tile = tiles.of(str(family[0]))
        found[family] = Grid(family, (axis,), {(x,): points[x] for x in axis}, (tile,))
    return tuple(found.values())


def _on_a_line(key: KernelKey) -> tuple[Family, int]:
    family, point = place(key)
    if len(point) > 1:
        family, point = whole_groups(key)
    return family, point[0]


def whole_groups(key: KernelKey) -> tuple[Family, tuple[int]]:
    """Family and place of a grouped convolution that loses whole groups."""
    attrs = dict(key.attrs)
    groups, out = attrs.pop("groups"), attrs.pop("out_channels")
    channels = key.shapes[0][1]
    each = (channels // groups, out // groups)
    return (key.op, "groups", key.shapes[0][2:], each, *sorted(attrs.items())), (groups,)


def _counts_groups(kernel: Kernel) -> bool:
    return isinstance(dict(kernel.attrs).get("groups"), Extent)


def _rectangle(
    kernel: Kernel, full: Mapping[str, int], tiles: Tiles, finer: frozenset[Family]
) -> Grid:
    """Input channels by output channels, each on its own."""
    base = kernel.at(full)
    attrs = dict(base.attrs)
    groups = attrs.get("groups", 1)
    channel = 1 if kernel.op != "linear" else len(kernel.shapes[0]) - 1
    source, out = kernel.shapes[0][channel], dict(kernel.attrs)["out_channels"]
    tile = tiles.of(kernel.op)
    family = place(base)[0]
    shares = (_EIGHTHS if family in finer else _INPUT_SHARES, _EIGHTHS)
    inputs = _axis(source, source.at(full), shares[0], groups, 1)
    outputs = _axis(out, attrs["out_channels"], shares[1], groups, tile)
    keys: dict[Point, KernelKey] = {}
    for c_in in inputs:
        for c_out in outputs:
            shape = (*base.shapes[0][:channel], c_in, *base.shapes[0][channel + 1 :])
            changed = tuple(sorted({**attrs, "out_channels": c_out}.items()))
            keys[c_in, c_out] = KernelKey(kernel.op, (shape,), changed)
    return Grid(family, (inputs, outputs), keys, (1, tile))


def _varying(dims: Iterable[Extent]) -> Extent:
    """The first dimension that widths change; one that they do not, else."""
    return next((extent for extent in dims if extent.groups), Extent(1))


def _axes(ways: Iterable[_Way], sizes: Point) -> tuple[tuple[int, ...], ...]:
    """Points along each coordinate, whose full sizes are `sizes`."""
    return tuple(
        _axis(extent, size, shares, 1, step)
        for (extent, shares, step), size in zip(ways, sizes, strict=True)
    )


def _rows(kernel: Kernel, full: Mapping[str, int], tiles: Tiles) -> Grid:
    """Rows, input channels and output channels of a linear, each on its own."""
    base = kernel.at(full)
    family, point = rows_too(base)
    attrs, tile = dict(base.attrs), tiles.of("linear")
    ways = (
        (_varying(kernel.shapes[0][:-1]), _INPUT_SHARES, 1),
        (kernel.shapes[0][-1], _FEW_SHARES, 1),
        (dict(kernel.attrs)["out_channels"], _FEW_SHARES, tile),
    )
    axes = _axes(ways, point)
    keys: dict[Point, KernelKey] = {}
    for rows, inner, out in product(*axes):
        changed = tuple(sorted({**attrs, "out_channels": out}.items()))
        keys[rows, inner, out] = KernelKey("linear", ((rows, inner),), changed)
    return Grid(family, axes, keys, (1, 1, tile))


def _matrices(kernel: Kernel, full: Mapping[str, int], tiles: Tiles) -> Grid:
    """How many products, their rows, inner size and columns, each on its own."""
    key = canonical(kernel.at(full))
    (*outer, rows, inner), (*_, columns) = kernel.shapes
    tile = tiles.of("linear")
    ways = (
        (_varying(outer), _FEW_SHARES, 1),
        (rows, _FEW_SHARES, 1),
        (inner, _INPUT_SHARES, 1),
        (columns, _INPUT_SHARES, tile),
    )
    sizes = (*key.shapes[0], key.shapes[1][-1])
    axes = _axes(ways, sizes)
    keys: dict[Point, KernelKey] = {}
    for b, m, k, n in product(*axes):
        keys[b, m, k, n] = KernelKey("bmm", ((b, m, k), (b, k, n)))
    return Grid(place(key)[0], axes, keys, (1, 1, 1, tile))


def _axis(
    extent: Extent | int, full: int, shares: Sequence[Fraction], groups: int, tile: int
) -> tuple[int, ...]:
    """Points along one coordinate: shares of the full size, up to whole tiles and groups."""
    if not isinstance(extent, Extent) or not extent.groups:
        return (full,)
    step = tile if full >= 2 * tile else 1
    while step % groups:
        step += 1 if groups == 1 else step
        if step > full:
            step = groups
    points = {min(full, max(step, -(-int(full * share) // step) * step)) for share in shares}
    return tuple(sorted(points | {full}))


def _line(
    kernel: Kernel, full: Mapping[str, int], tiles: Tiles, shares: Sequence[Fraction]
) -> list[KernelKey]:
    """The kernel with all its widths reduced together."""
    if not kernel.groups:
        return [canonical(kernel.at(full))]
    if kernel.op.startswith(PREFIX):
        shares = _FEW_SHARES
    tile = tiles.of(kernel.op)
    if _counts_groups(kernel):
        step = max(tile, CACHE_LINE) if kernel.op == "dwconv" else 1
        keys = [_fewer_groups(kernel.at(full), share, step) for share in shares]
        return keys + [k for key in keys for k in _unaligned(key)]
    keys = []
    for share in shares:
        widths = {}
        for group in kernel.groups:
            size = full[group]
            step = lcm(tile if size >= 2 * tile else 1, _parts(kernel, group))
            widths[group] = min(size, max(1, -(-int(size * share) // step) * step))
        keys.append(canonical(kernel.at(widths)))
    return keys


def _extents(kernel: Kernel) -> list[Extent]:
    inside = [extent for shape in kernel.shapes for extent in shape]
    return inside + [value for _, value in kernel.attrs if isinstance(value, Extent)]


def _counts(extent: Extent) -> list[tuple[str, int | Fraction]]:
    """The groups that a size counts, with how often."""
    inside = [(name, n) for *pair, n in extent.products for name in pair]
    return [*extent.terms, *((str(name), n) for name, n in inside)]


def _parts(kernel: Kernel, group: str) -> int:
    """Of how many channels of a group a size may hold one: only so many can go at a time."""
    times = [n for extent in _extents(kernel) for name, n in _counts(extent) if name == group]
    return lcm(*(Fraction(n).denominator for n in times))


def _unaligned(key: KernelKey) -> list[KernelKey]:
    """A depthwise convolution of one channel less, whose pixels do not fill lines."""
    attrs = dict(key.attrs)
    if key.op != "dwconv" or not aligned(key) or attrs["groups"] == 1:
        return []
    batch, channels, *image = key.shapes[0]
    groups = attrs["groups"] - 1
    out = attrs["out_channels"] // attrs["groups"] * groups
    changed = tuple(sorted({**attrs, "groups": groups, "out_channels": out}.items()))
    return [KernelKey(key.op, ((batch, channels // attrs["groups"] * groups, *image),), changed)]


def _fewer_groups(key: KernelKey, share: Fraction, step: int) -> KernelKey:
    """A grouped or depthwise convolution with a share of its groups, each of them whole."""
    attrs = dict(key.attrs)
    batch, channels, *image = key.shapes[0]
    whole = attrs["groups"]
    groups = min(whole, max(1, -(-int(whole * share) // step) * step))
    out = attrs["out_channels"] // whole * groups
    changed = tuple(sorted({**attrs, "groups": groups, "out_channels": out}.items()))
    return KernelKey(key.op, ((batch, channels // whole * groups, *image),), changed)
