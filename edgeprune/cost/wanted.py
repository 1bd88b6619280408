"""Every kernel that `profile` may ask for, for devices that can be asked only once.

`profile` looks at its first measurements to choose the next: the device's tiles decide the grids,
and kernels that a grid tells badly get a finer one. A device that is reached through somebody else
gets all of that at once: the grids of every tile there may be, coarse and fine.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.cost.grid import Tiles, grids
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import MeasuredCost, weight_bytes
from edgeprune.cost.profiling import FEWEST_BATCH_BYTES, unmeasured
from edgeprune.cost.tiles import CANDIDATES, probes
from edgeprune.records import ChannelGroups, Graph, KernelKey


@dataclass(frozen=True)
class Sweep:
    """Kernels that are executed in turns, about `batch_bytes` of weights at a time, as in the
    network."""

    keys: tuple[KernelKey, ...]
    batch_bytes: int


def everything(graph: Graph, groups: ChannelGroups, dtype: str = "fp32") -> tuple[Sweep, ...]:
    """All that `profile` may ask of a device for `graph`, as it runs there: the probes, then grids
    and checks."""
    found, full = kernels(graph, groups.extents), groups.full_widths()
    keys: dict[KernelKey, None] = {}
    for tile in CANDIDATES:
        tiles = Tiles(tile, tile)
        coarse = grids(found, full, tiles)
        fine = grids(found, full, tiles, frozenset(grid.family for grid in coarse))
        for grid in (*coarse, *fine):
            keys.update(dict.fromkeys(grid.keys.values()))
    parts = {group.name: group.parts for group in groups.groups}
    keys.update(dict.fromkeys(unmeasured(MeasuredCost(found, full, parts, {}, Tiles(1, 1)))))
    weights = sum(weight_bytes(kernel.at(full)) for kernel in found)
    first = tuple(key for sweep in probes(dtype) for key in sweep)
    return (
        Sweep(first, FEWEST_BATCH_BYTES),
        Sweep(tuple(keys), max(weights, FEWEST_BATCH_BYTES)),
    )
