"""`profile`: measure what a network's kernels cost on a target, once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.grid import Tiles, grids
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import MeasuredCost, Taken, assemble, weight_bytes
from edgeprune.cost.sampler import Effort, sample
from edgeprune.cost.table import CostTable, default_path
from edgeprune.cost.tiles import probes, tile_of
from edgeprune.errors import TargetError
from edgeprune.records import (
    ChannelGroups,
    Conditions,
    Graph,
    KernelKey,
    Progress,
    Target,
    silent,
)

_BATCH = 120
_FEWEST_BATCH_BYTES = 2_000_000


def profile(
    graph: Graph,
    target: Target,
    groups: ChannelGroups,
    *,
    progress: Progress = silent,
    table: Path | None = None,
) -> MeasuredCost:
    """What `graph` costs on `target` at any widths, from kernels executed on it.

    Kernels that the cost table (`table`, by default one per user) has under the same conditions are
    not executed again. Raises TargetError where the target's kernels cannot be measured here,
    MeasureError where the measuring process dies (what it had measured is kept), OutputError where
    the table cannot be written.
    """
    _check(target)
    started = time.perf_counter()
    store = _Store(CostTable(table or default_path()), target, progress)
    sweeps = probes()
    times = store.times([key for sweep in sweeps for key in sweep], _FEWEST_BATCH_BYTES)
    tiles = Tiles(*(tile_of(sweep, times) for sweep in sweeps))
    found, full = kernels(graph, groups.extents), groups.full_widths()
    wanted = grids(found, full, tiles)
    weights = sum(weight_bytes(kernel.at(full)) for kernel in found)
    times = store.times(
        [key for grid in wanted for key in grid.keys.values()], max(weights, _FEWEST_BATCH_BYTES)
    )
    parts = {group.name: group.parts for group in groups.groups}
    taken = replace(store.taken, seconds=time.perf_counter() - started)
    return MeasuredCost(found, full, parts, assemble(wanted, times), tiles, taken=taken)


def _check(target: Target) -> None:
    if (target.runner, target.backend, target.dtype) != ("local", "xnnpack", "fp32"):
        raise TargetError(
            f"kernels can be measured on this host with XNNPACK in fp32, and target {target.name!r}"
            f" is runner={target.runner}, backend={target.backend}, dtype={target.dtype}"
            f" ({target.source or 'no file'})"
        )


class _Store:
    """The table with the measuring behind it."""

    def __init__(self, table: CostTable, target: Target, progress: Progress) -> None:
        self._table = table
        self._threads = target.threads
        self._progress = progress
        self.taken = Taken()
        self._conditions: Conditions = host_conditions(target.backend, target.dtype, target.threads)

    def times(self, keys: Iterable[KernelKey], batch_bytes: int) -> dict[KernelKey, float]:
        """The median time (µs) of each key, measuring those that the table lacks."""
        wanted = list(dict.fromkeys(keys))
        known = self._table.estimates(wanted, self._conditions)
        fresh: list[tuple[KernelKey, tuple[float, ...]]] = []
        missing = [key for key in wanted if key not in known]
        samples = 0
        try:
            effort = Effort(batch_bytes=batch_bytes)
            for answer in sample(missing, self._threads, effort, progress=self._progress):
                fresh.append(answer)
                samples += len(answer[1])
                if len(fresh) >= _BATCH:
                    self._table.add(fresh, self._conditions)
                    fresh = []
        finally:
            self._table.add(fresh, self._conditions)  # also when the worker died half way
        self.taken = Taken(
            self.taken.kernels + len(wanted),
            self.taken.executed + len(missing),
            self.taken.samples + samples,
        )
        return self._table.estimates(wanted, self._conditions)
