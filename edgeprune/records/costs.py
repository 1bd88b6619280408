"""What the kernels of a network cost at given widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeprune.records.network import Block, Extent, Widths


@dataclass(frozen=True, order=True)
class KernelKey:
    """One kernel as the runtime executes it, after its own fusion.

    `shapes` are the input tensors' (N C H W, or ..., C for linear), batch 1; `attrs` are sorted
    (name, value) pairs such as ("kernel", (3, 3)), ("stride", (1, 1)), ("out_channels", 64),
    ("activation", "relu").
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attrs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Kernel:
    """A kernel whose sizes depend on widths: a `KernelKey` with `Extent`s for sizes.

    `nodes` names the graph nodes it executes; `shapes` and the values of `attrs` may hold
    `Extent`s. `blocks` are the keys of the blocks without which it is not executed.
    """

    op: str
    nodes: tuple[str, ...]
    shapes: tuple[tuple[Extent, ...], ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    blocks: tuple[str, ...] = ()

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose widths this kernel's cost depends on."""
        extents = [e for shape in self.shapes for e in shape]
        extents += [v for _, v in self.attrs if isinstance(v, Extent)]
        return frozenset(name for e in extents for name in e.groups)

    def at(self, widths: Widths) -> KernelKey:
        """The concrete kernel under `widths`; one without shapes where a block of it is dropped."""
        if any(widths.get(block, 1) == 0 for block in self.blocks):
            return KernelKey(self.op, ())
        return KernelKey(
            self.op,
            tuple(tuple(e.at(widths) for e in shape) for shape in self.shapes),
            tuple((k, v.at(widths) if isinstance(v, Extent) else v) for k, v in self.attrs),
        )


class CostModel(Protocol):
    """Predicted cost of a network at any widths on one target."""

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The network's kernels, in execution order."""
        ...

    def kernel_us(self, key: KernelKey) -> float:
        """Predicted time of one kernel, microseconds."""
        ...

    def kernel_bytes(self, key: KernelKey) -> int:
        """What one kernel adds to the .pte, bytes."""
        ...

    def latency_ms(self, widths: Widths) -> float:
        """Predicted latency of the whole network, milliseconds, corrections included."""
        ...

    def size_bytes(self, widths: Widths) -> int:
        """Predicted .pte size."""
        ...

    def steps(self, group: str) -> tuple[int, ...]:
        """The widths of a group worth choosing from: where the measured staircase steps."""
        ...

    def corrected(self, widths: Widths, measured_ms: float) -> CostModel:
        """A model that agrees with a measured whole program at `widths`."""
        ...

    def size_corrected(self, widths: Widths, measured_bytes: int) -> CostModel:
        """A model whose size agrees with a lowered program at `widths`."""
        ...

    def with_blocks(self, blocks: Sequence[Block]) -> CostModel:
        """The same model, whose kernels know which of `blocks` they vanish with."""
        ...
