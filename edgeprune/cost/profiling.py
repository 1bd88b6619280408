"""`profile`: measure what a network's kernels cost on a target, once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeprune.cost.curves import Family, canonical, homes
from edgeprune.cost.grid import Tiles, grids
from edgeprune.cost.int8_nodes import INT8
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import MeasuredCost, Taken, assemble, weight_bytes
from edgeprune.cost.roofline import estimate
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.runs import HostRuns, KernelRuns
from edgeprune.cost.sampler import Effort
from edgeprune.cost.table import CostTable, default_path, lower_quartile
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
_ROUNDS, _SECONDS = 8, 8.0
_AGREES = 0.05
"""How far two turns of measuring the same kernel may lie apart."""
_DISAGREES = 0.08
"""How far a kernel that was measured to check may lie from what the grid says."""
_RESOLVED_US = 3.0
_NARROWEST = 0.2
FEWEST_BATCH_BYTES = 2_000_000
KERNEL_DTYPES = ("fp32", INT8)
"""In which XNNPACK's kernels can be measured one by one."""


def profile(
    graph: Graph,
    target: Target,
    groups: ChannelGroups,
    *,
    progress: Progress = silent,
    table: Path | None = None,
    runs: KernelRuns | None = None,
) -> MeasuredCost:
    """What `graph` costs on `target` at any widths, from kernels executed on it.

    A target whose runner is "roofline" is estimated from its peak rates, and nothing is executed.

    Kernels that the cost table (`table`, by default one per user) has under the same conditions are
    not executed again. `runs` executes them; by default this host does. Raises TargetError where
    the target's kernels cannot be measured, MeasureError where the measuring process dies (what it
    had measured is kept), OutputError where the table cannot be written.
    """
    if target.runner == "roofline":
        return estimate(graph, target, groups)
    _check(target, runs)
    started = time.perf_counter()
    store = _Store(CostTable(table or default_path()), runs or HostRuns(target), progress)
    tiles = _tiles(target, store)
    found, full = kernels(graph, groups.extents), groups.full_widths()
    weights = sum(weight_bytes(kernel.at(full)) for kernel in found)
    batch_bytes = max(weights, FEWEST_BATCH_BYTES)

    def measured(finer: frozenset[Family]) -> MeasuredCost:
        wanted = grids(found, full, tiles, finer)
        times = store.times([k for grid in wanted for k in grid.keys.values()], batch_bytes)
        parts = {group.name: group.parts for group in groups.groups}
        return MeasuredCost(found, full, parts, assemble(wanted, times), tiles)

    cost = measured(frozenset())
    errors = _held_out(cost, store.times(unmeasured(cost), batch_bytes, turns=1))
    finer = frozenset(homes(key)[0][0] for key, error in errors.items() if abs(error) > _DISAGREES)
    if finer:
        cost = measured(finer)
        errors = {key: e for key, e in errors.items() if homes(key)[0][0] not in finer}
    taken = replace(
        store.taken,
        seconds=time.perf_counter() - started,
        held_out=tuple(sorted(abs(error) for error in errors.values())),
        refined=len(finer),
    )
    return replace(cost, taken=taken)


def unmeasured(cost: MeasuredCost) -> list[KernelKey]:
    """One kernel between measured points for each that the delegate executes."""
    rng = np.random.default_rng(0)
    widths = {
        name: max(1, round(rng.uniform(_NARROWEST, 1) * size / cost.parts[name])) * cost.parts[name]
        for name, size in cost.sizes.items()
    }
    inside = [k for k in cost.kernels if not k.op.startswith(PREFIX) and k.groups]
    return list(dict.fromkeys(canonical(kernel.at(widths)) for kernel in inside))


def _held_out(cost: MeasuredCost, times: Mapping[KernelKey, float]) -> dict[KernelKey, float]:
    """The relative error of each kernel that the grids tell and that was measured to check them.

    Those that no clock of the event tracer resolves are left out.
    """
    return {key: cost.kernel_us(key) / us - 1 for key, us in times.items() if us > _RESOLVED_US}


def _check(target: Target, runs: KernelRuns | None) -> None:
    if runs is not None and (target.runner, target.backend) == ("vela", "ethos-u"):
        return
    runners = ("local",) if runs is None else ("local", "ssh", "adb", "kit")
    known = target.backend == "xnnpack" and target.dtype in KERNEL_DTYPES
    if target.runner not in runners or not known:
        raise TargetError(
            "kernels can be measured on this host and on boards with XNNPACK in fp32 and int8, and "
            f"target {target.name!r} is runner={target.runner}, backend={target.backend}, "
            f"dtype={target.dtype} ({target.source or 'no file'})"
        )


def _tiles(target: Target, store: _Store) -> Tiles:
    """What the profile says of the device, or what a small sweep tells."""
    if target.channel_multiple is not None:
        return Tiles(target.channel_multiple, target.channel_multiple)
    sweeps = probes(target.dtype)
    times = store.times([key for sweep in sweeps for key in sweep], FEWEST_BATCH_BYTES, turns=1)
    return Tiles(*(tile_of(sweep, times) for sweep in sweeps))


class _Store:
    """The table with the measuring behind it."""

    def __init__(self, table: CostTable, runs: KernelRuns, progress: Progress) -> None:
        self._table = table
        self._runs = runs
        self._progress = progress
        self.taken = Taken()
        self._conditions: Conditions = runs.conditions()

    def times(
        self, keys: Iterable[KernelKey], batch_bytes: int, turns: int = 2
    ) -> dict[KernelKey, float]:
        """The time (µs) of each key, measuring those that the table lacks.

        In `turns` processes one after the other, and where these disagree once more: what disturbs
        one turn is seldom there in the next.
        """
        wanted = list(dict.fromkeys(keys))
        known = self._table.estimates(wanted, self._conditions)
        missing = [key for key in wanted if key not in known]
        if missing:
            taken = [self._turn(missing, batch_bytes) for _ in range(turns)]
            doubtful = [key for key in missing if _disagree(key, taken)]
            if doubtful:
                self._turn(doubtful, batch_bytes)
        self.taken = replace(
            self.taken,
            kernels=self.taken.kernels + len(wanted),
            executed=self.taken.executed + len(missing),
        )
        return self._table.estimates(wanted, self._conditions)

    def _turn(self, keys: list[KernelKey], batch_bytes: int) -> dict[KernelKey, float]:
        """Measures `keys` once and keeps what comes; the lower quartile of each, µs."""
        fresh: list[tuple[KernelKey, tuple[float, ...]]] = []
        found: dict[KernelKey, float] = {}
        # Made anew, so that the table says what the machine was doing now.
        now = self._runs.conditions()
        try:
            effort = Effort(seconds=_SECONDS, rounds=_ROUNDS, batch_bytes=batch_bytes)
            for key, us in self._runs.sample(keys, effort, self._progress):
                fresh.append((key, us))
                found[key] = lower_quartile(us)
                self.taken = replace(self.taken, samples=self.taken.samples + len(us))
                if len(fresh) >= _BATCH:
                    self._table.add(fresh, now)
                    fresh = []
        finally:
            self._table.add(fresh, now)  # also when the worker died half way
        return found


def _disagree(key: KernelKey, turns: Sequence[Mapping[KernelKey, float]]) -> bool:
    found = [turn[key] for turn in turns if key in turn]
    return max(found, default=0.0) > _RESOLVED_US and max(found) > (1 + _AGREES) * min(found)
