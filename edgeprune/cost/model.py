"""The cost of a network at any widths, from measured kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import prod

from edgeprune.cost.calibration import Calibration, calibrated
from edgeprune.cost.curves import Curve, Family, Point, canonical, homes
from edgeprune.cost.grid import Grid, Tiles, whole_groups
from edgeprune.cost.int8_nodes import INT8
from edgeprune.cost.kernels import in_blocks
from edgeprune.cost.pte_parts import aligned
from edgeprune.cost.xnnpack_graph import FLOAT_BYTES
from edgeprune.cost.xnnpack_nodes import WEIGHTED
from edgeprune.records import Block, Extent, Kernel, KernelKey, Widths

_FEWEST_STEPS, _MOST_STEPS = 6, 16
_TINY_GROUP = 8
# Weights and biases are a segment each, and begin at multiples of this many bytes.
_SEGMENT_BYTES = 128
# What a .pte holds beside them does not depend on widths: the file itself, the entries of a kernel
# with weights (names of 64 letters), of any other, and of a delegate call. Learnt from six networks
# (benchmarks/cost), and off by some kilobytes; `size_corrected` makes it right for one network.
# Equal weights are stored once, which matters to networks without training only: all biases zero.
_FILE_BYTES = 2_000
_WEIGHTED_BYTES, _PLAIN_BYTES, _CALL_BYTES = 560, 240, 2_000
_SCALES_BYTES = 525


@dataclass(frozen=True)
class Taken:
    """What it took to know a network's kernels: those asked for, how many of them were executed
    now (the others were in the table), their samples, and the seconds of it all.

    `held_out` are the relative errors, ascending, of kernels between the measured points, which
    were executed to check; `refined` is how many families got more points because of theirs.
    """

    kernels: int = 0
    executed: int = 0
    samples: int = 0
    seconds: float = 0.0
    held_out: tuple[float, ...] = ()
    refined: int = 0


@dataclass(frozen=True)
class MeasuredCost:
    """A `CostModel` whose kernels were measured on the target.

    `sizes` are the full widths, `parts` how many parts of a group must keep equal counts,
    `curves` the measured grids by family. `factor`, `offset_ms` and `offset_bytes` are what
    measured whole programs have taught (see `corrected`, `calibrated`, `size_corrected`).
    """

    kernels: tuple[Kernel, ...]
    sizes: Mapping[str, int]
    parts: Mapping[str, int]
    curves: Mapping[Family, tuple[Curve, ...]]
    tiles: Tiles
    factor: float = 1.0
    offset_bytes: int = 0
    offset_ms: float = 0.0
    taken: Taken = field(default=Taken(), compare=False)
    _known: dict[KernelKey, float] = field(default_factory=dict, repr=False, compare=False)

    def kernel_us(self, key: KernelKey) -> float:
        """Predicted time of one kernel, microseconds: measured where it was, else interpolated.

        Zero for an op that could not be measured by itself (`profile` has warned about it).
        Raises KeyError for a kernel that is not this network's at any width.
        """
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._interpolated(canonical(key))
        return known

    def kernel_bytes(self, key: KernelKey) -> int:
        """What one kernel adds to the .pte, bytes; nothing where its block is dropped."""
        return kernel_bytes(key)

    def latency_ms(self, widths: Widths) -> float:
        """Predicted latency of the whole network, milliseconds, corrections included."""
        total = sum(self.kernel_us(kernel.at(widths)) for kernel in self.kernels)
        return self.factor * total / 1000 + self.offset_ms

    def size_bytes(self, widths: Widths) -> int:
        """Predicted .pte size, bytes, corrections included."""
        kernels = sum(kernel_bytes(kernel.at(widths)) for kernel in self.kernels)
        return _FILE_BYTES + kernels + self.offset_bytes

    def corrected(self, widths: Widths, measured_ms: float) -> MeasuredCost:
        """The model whose latency at `widths` is `measured_ms`: all of it by one factor."""
        ratio = measured_ms / self.latency_ms(widths)
        return replace(self, factor=ratio * self.factor, offset_ms=ratio * self.offset_ms)

    def calibrated(
        self, programs: Sequence[tuple[Widths, float]]
    ) -> tuple[MeasuredCost, Calibration]:
        """The model that fits whole programs best, (widths, measured milliseconds) each, and how
        far each of them was from what the others teach."""
        plain = replace(self, factor=1.0, offset_ms=0.0)
        found = calibrated([(plain.latency_ms(widths), ms) for widths, ms in programs])
        return replace(self, factor=found.factor, offset_ms=found.offset_ms), found

    def size_corrected(self, widths: Widths, measured_bytes: int) -> MeasuredCost:
        """The model whose size at `widths` is `measured_bytes`: the difference is constant."""
        return replace(
            self, offset_bytes=self.offset_bytes + measured_bytes - self.size_bytes(widths)
        )

    def with_blocks(self, blocks: Sequence[Block]) -> MeasuredCost:
        """The model whose kernels vanish with `blocks` where widths say that they are dropped."""
        return replace(self, kernels=in_blocks(self.kernels, blocks))

    def steps(self, group: str) -> tuple[int, ...]:
        """Kept-channel counts of `group` worth offering to a planner, ascending, full size last.

        The time of a kernel falls by tiles of output channels, so between two tiles there is
        nothing to win: multiples of the tile of the kernels that produce the group, more finely
        where that leaves fewer than six choices, thinned out above sixteen. Small groups (8
        or fewer) offer every count. Counts can always be shared equally by the group's parts.
        """
        size, parts = self.sizes[group], self.parts[group]
        stride = self._strides.get(group, 1) if size > _TINY_GROUP else 1
        choices = _multiples(size, stride, parts)
        while len(choices) < _FEWEST_STEPS and stride > 1:
            stride //= 2
            choices = _multiples(size, stride, parts)
        if len(choices) > _MOST_STEPS:
            last = len(choices) - 1
            picked = {round(i * last / (_MOST_STEPS - 1)) for i in range(_MOST_STEPS)}
            choices = [choices[i] for i in sorted(picked)]
        return tuple(choices)

    @cached_property
    def _strides(self) -> dict[str, int]:
        """How many channels of each group make whole tiles in all kernels that produce them."""
        strides: dict[str, int] = {}
        for kernel in self.kernels:
            if kernel.op not in WEIGHTED:
                continue
            out = dict(kernel.attrs)["out_channels"]
            for group, times in self._times(out) if isinstance(out, Extent) else ():
                share = Fraction(self.tiles.of(kernel.op)) / times
                strides[group] = max(strides.get(group, 1), share.numerator)
        return strides

    def _times(self, extent: Extent) -> Iterator[tuple[str, int | Fraction]]:
        """How often an extent counts each group, what it is multiplied with being whole."""
        yield from extent.terms
        for one, other, times in extent.products:
            yield one, times * self.sizes[other]
            yield other, times * self.sizes[one]

    def _interpolated(self, key: KernelKey) -> float:
        if not key.shapes or any(0 in shape for shape in key.shapes):
            return 0.0  # a dropped block, or a branch that lost all its channels, is not executed
        grouped = key.op in WEIGHTED and "groups" in dict(key.attrs)
        places = [*homes(key), *([whole_groups(key)] if grouped else [])]
        for family, point in places:
            curve = self._curve(family, point)
            if curve is not None:
                return curve.at(point)
        if key.op.startswith("portable:"):
            return 0.0
        raise KeyError(f"no kernel of this network is like {key}")

    def _curve(self, family: Family, point: Point) -> Curve | None:
        """The tightest grid around `point`, else the largest of its family."""
        curves = self.curves.get(family, ())
        return next((c for c in curves if c.covers(point)), curves[-1] if curves else None)


def _multiples(size: int, stride: int, parts: int) -> list[int]:
    return sorted({*(c for c in range(stride, size, stride) if c % parts == 0), size})


def kernel_bytes(key: KernelKey) -> int:
    """What a kernel adds to a .pte: its weights as they lie there, and its entries in tables."""
    if not key.shapes:
        return 0
    if key.op in WEIGHTED:
        bias = int(dict(key.attrs)["out_channels"]) * FLOAT_BYTES
        segments, entries = [weight_bytes(key) - bias, bias], _WEIGHTED_BYTES
        if dict(key.attrs).get("dtype") == INT8:
            segments += [bias, bias]  # a scale for each channel of the weights, and of the bias
            entries += _SCALES_BYTES
        return entries + sum(aligned(size, _SEGMENT_BYTES) for size in segments)
    return _CALL_BYTES if key.op == "delegate_call" else _PLAIN_BYTES


def weight_bytes(key: KernelKey) -> int:
    """What a kernel's weights and bias take in a .pte: the bias as many bytes in int8, too."""
    if key.op not in WEIGHTED:
        return 0
    attrs = dict(key.attrs)
    out = attrs["out_channels"]
    if key.op == "linear":
        inputs = key.shapes[0][-1]
    else:
        inputs = key.shapes[0][1] // attrs["groups"] * prod(attrs["kernel"])
    each = FLOAT_BYTES if attrs.get("dtype") is None else 1
    return int(inputs * out * each + out * FLOAT_BYTES)


def assemble(
    grids: tuple[Grid, ...], times: Mapping[KernelKey, float]
) -> dict[Family, tuple[Curve, ...]]:
    """Curves by family from measured grids, the tightest first."""
    curves: dict[Family, list[Curve]] = defaultdict(list)
    for grid in grids:
        curve = grid.curve(times)
        if curve is not None:
            curves[grid.family].append(curve)
    return {f: tuple(sorted(found, key=lambda c: c.volume)) for f, found in curves.items()}
