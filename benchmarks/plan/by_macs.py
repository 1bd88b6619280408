"""A cost model that needs no measuring: time goes with multiply-accumulates and elements.

For networks whose kernels would take long to measure, when only the solver is to be tried. Output
channels come in tiles of 16, as the host's micro-kernels have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from edgeprune.cost import kernels
from edgeprune.cost.kernels import in_blocks
from edgeprune.cost.model import weight_bytes
from edgeprune.planning.macs import kernel_macs
from edgeprune.records import Block, ChannelGroups, Graph, Kernel, KernelKey, Widths

_TILE = 16
_US_PER_MAC, _US_PER_ELEMENT, _US_PER_KERNEL = 1 / 40_000, 1 / 4_000, 0.5


@dataclass(frozen=True)
class ByMacs:
    """A `CostModel` by formula."""

    kernels: tuple[Kernel, ...]
    sizes: dict[str, int]
    parts: dict[str, int]
    factor: float = 1.0
    offset_bytes: int = 0

    @classmethod
    def of(cls, graph: Graph, groups: ChannelGroups) -> ByMacs:
        """The model of a network."""
        parts = {group.name: group.parts for group in groups.groups}
        return cls(kernels(graph, groups.extents), groups.full_widths(), parts)

    def kernel_us(self, key: KernelKey) -> float:
        if not key.shapes:
            return 0.0
        attrs = dict(key.attrs)
        rounded = 1.0
        if attrs.get("out_channels"):
            out = int(attrs["out_channels"])
            rounded = -(-out // _TILE) * _TILE / out
        elements = sum(prod(shape) for shape in key.shapes)
        macs = rounded * kernel_macs(key)
        return _US_PER_KERNEL + macs * _US_PER_MAC + elements * _US_PER_ELEMENT

    def kernel_bytes(self, key: KernelKey) -> int:
        return weight_bytes(key) + 540 if key.shapes else 0

    def latency_ms(self, widths: Widths) -> float:
        total = sum(self.kernel_us(kernel.at(widths)) for kernel in self.kernels)
        return self.factor * total / 1000

    def size_bytes(self, widths: Widths) -> int:
        kernels = sum(self.kernel_bytes(kernel.at(widths)) for kernel in self.kernels)
        return kernels + self.offset_bytes

    def steps(self, group: str) -> tuple[int, ...]:
        size, parts = self.sizes[group], self.parts[group]
        stride = max(1, size // 16)
        found = {w for w in range(stride, size, stride) if w % parts == 0} | {size}
        return tuple(sorted(found))

    def corrected(self, widths: Widths, measured_ms: float) -> ByMacs:
        return replace(self, factor=self.factor * measured_ms / self.latency_ms(widths))

    def size_corrected(self, widths: Widths, measured_bytes: int) -> ByMacs:
        more = measured_bytes - self.size_bytes(widths)
        return replace(self, offset_bytes=self.offset_bytes + more)

    def with_blocks(self, blocks: Sequence[Block]) -> ByMacs:
        return replace(self, kernels=in_blocks(self.kernels, blocks))
