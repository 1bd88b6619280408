"""One network's planning: what there is to choose is tabulated once, then solved for any limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import BudgetError
from edgeprune.planning.dual import Goal
from edgeprune.planning.levels import Choices
from edgeprune.planning.limits import Blocks, Limits, Rules, Usage
from edgeprune.planning.macs import kernel_macs
from edgeprune.planning.memory import Moment, peak_bytes
from edgeprune.planning.problem import Levels, Problem
from edgeprune.planning.reachable import out_of_reach
from edgeprune.planning.solve import TIME_LIMIT, OutOfReach, Solution, Solver
from edgeprune.planning.tabulate import QUANTITIES, Tabulated, tabulated
from edgeprune.records import ChannelGroups, CostModel, Scores, Widths

_SAFE = 1 - 1e-8
"""Limits are taken a little tighter, so that sums in another order do not exceed them."""
_MOST_MOMENTS = 12
_TRIES = 3
_STOPPED = ("the search ended before the gap was closed: another run may find another plan",)
_ROW = {name: i for i, name in enumerate(QUANTITIES)}


@dataclass(frozen=True)
class Proof:
    """How good a plan is: the share of the importance that it keeps, and by how much that may fall
    short of the best (`gap`, relative; 0 is optimal), found in `seconds`."""

    importance: float
    gap: float
    seconds: float
    how: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """Widths with what they take, and the proof."""

    widths: dict[str, int]
    usage: Usage
    proof: Proof


@dataclass(frozen=True)
class Planner:
    """Groups, scores, blocks and costs, and what a user demands; `within` plans.

    `moments` makes what lives at one time, where memory is limited. A cost model that was corrected
    meanwhile takes the place of `cost` without tabulating again, see `with_cost`.
    """

    groups: ChannelGroups
    scores: Scores
    cost: CostModel
    blocks: Blocks = field(default_factory=Blocks)
    rules: Rules = field(default_factory=Rules)
    moments: Callable[[], tuple[Moment, ...]] = tuple
    time_limit: float = TIME_LIMIT
    tables: dict[object, tuple[Tabulated, CostModel]] = field(default_factory=dict, repr=False)

    def with_cost(self, cost: CostModel) -> Planner:
        """The same with a model that measurements have corrected: all latencies by one factor, all
        sizes by one difference."""
        return replace(self, cost=cost)

    def within(self, limits: Limits) -> Chosen:
        """The most importance kept within `limits`, or the lowest latency where they ask for an
        importance only. Raises BudgetError where nothing fits, with what could be had."""
        tight, seconds = limits, 0.0
        starts: tuple[Levels, ...] = ()
        for _ in range(_TRIES):
            chosen, levels = self._solved(tight, starts)
            seconds += chosen.proof.seconds
            starts = (levels,)
            if not limits.exceeded(chosen.usage):
                break
            # tables that round sums are off by a little: ask for as much less
            tight = _tightened(tight, limits, chosen.usage)
        return replace(chosen, proof=replace(chosen.proof, seconds=seconds))

    def usage(self, widths: Widths, limits: Limits | None = None) -> Usage:
        """What a network takes, as the cost model predicts it; memory where `limits` have it."""
        cost = self._with_blocks
        macs = sum(kernel_macs(kernel.at(widths)) for kernel in cost.kernels)
        limited = limits is not None and limits.memory_bytes is not None
        memory = peak_bytes(self.moments(), widths) if limited else 0
        return Usage(cost.latency_ms(widths), cost.size_bytes(widths), memory, macs)

    def least(self, quantity: str, limits: Limits) -> float:
        """The least that a plan takes of a quantity, no matter what else."""
        table = self._table(limits)
        weights = np.zeros(len(table.problem.quantities))
        weights[_ROW[quantity]] = 1.0
        least = Solver(table.problem).least(weights)
        scale, offset = self._correction(limits)
        return {"latency": least * scale, "bytes": least + offset}.get(quantity, least)

    # --- solving --------------------------------------------------------------------------

    def _solved(self, limits: Limits, starts: tuple[Levels, ...]) -> tuple[Chosen, Levels]:
        table = self._table(limits)
        watched: list[Moment] = []
        while True:
            solution, problem = self._solution(table, limits, watched, starts)
            widths = {**problem.widths(solution.levels), **self.gone}
            usage = self.usage(widths, limits)
            most = limits.memory_bytes
            if most is None or usage.memory_bytes <= most or len(watched) >= _MOST_MOMENTS:
                break
            watched.append(self._fullest(widths))
        full = float(self._whole(table)[_ROW["importance"]])
        kept = float(solution.taken[_ROW["importance"]])
        proof = Proof(
            kept / full if full else 1.0,
            solution.gap,
            solution.seconds,
            solution.how,
            (*table.notes, *(_STOPPED if solution.gap else ())),
        )
        return Chosen(widths, usage, proof), solution.levels

    def _solution(
        self,
        table: Tabulated,
        limits: Limits,
        watched: list[Moment],
        starts: tuple[Levels, ...],
    ) -> tuple[Solution, Problem]:
        watched_table = table.watching(watched)
        problem = watched_table.problem
        goal = self._goal(watched_table, limits, len(watched))
        try:
            return Solver(problem, starts).solve(goal, self.time_limit), problem
        except OutOfReach as found:
            raise BudgetError(out_of_reach(self, limits, found.proven)) from None

    def _goal(self, table: Tabulated, limits: Limits, watched: int) -> Goal:
        """The limits as rows, in the units of the tables."""
        scale, offset = self._correction(limits)
        count = len(table.problem.quantities)
        rows = []
        for quantity, most in (
            ("latency", None if limits.latency_ms is None else limits.latency_ms / scale),
            ("bytes", None if limits.size_bytes is None else limits.size_bytes - offset),
            ("macs", limits.macs),
        ):
            if most is not None:
                rows.append(_row(count, _ROW[quantity], 1 / (max(most, 1e-12) * _SAFE)))
        assert not watched or limits.memory_bytes is not None
        memory = 1 / ((limits.memory_bytes or 1) * _SAFE)
        rows += [_row(count, len(QUANTITIES) + i, memory) for i in range(watched)]
        full = self._whole(table)
        worth = np.zeros(count)
        if limits.importance is not None:
            floor = limits.importance * full[_ROW["importance"]]
            kept = _row(count, _ROW["importance"], -1 / max(floor, 1e-30))
            kept[_ROW["one"]] = 2.0
            rows.append(kept)
            worth[_ROW["latency"]] = -1 / full[_ROW["latency"]]
        else:
            worth[_ROW["importance"]] = 1 / max(float(full[_ROW["importance"]]), 1e-30)
        return Goal(worth, np.stack(rows) if rows else np.zeros((0, count)))

    def _whole(self, table: Tabulated) -> NDArray[np.float64]:
        problem = table.problem
        return problem.taken(problem.complete([0] * len(problem.variables)))

    def _fullest(self, widths: Widths) -> Moment:
        return max(self.moments(), key=lambda m: sum(t.bytes_at(widths) for t in m))

    # --- tables ---------------------------------------------------------------------------

    @cached_property
    def _with_blocks(self) -> CostModel:
        return self.cost.with_blocks(self.blocks.known) if self.blocks.known else self.cost

    @property
    def gone(self) -> dict[str, int]:
        """The blocks that are dropped in any case, as widths."""
        return {b.key: 0 for b in self.blocks.known if b.name in self.blocks.dropped}

    def _table(self, limits: Limits) -> Tabulated:
        return self._made(limits)[0]

    def _made(self, limits: Limits) -> tuple[Tabulated, CostModel]:
        """The tables for limits of this kind, and the cost model that they were made of."""
        key = (limits.floor, limits.size_bytes is not None, limits.macs is not None)
        if key not in self.tables:
            choices = Choices(self.groups, self.cost, limits, self.rules)
            made = tabulated(choices, self.scores, self.blocks)
            self.tables[key] = made, self._with_blocks
        return self.tables[key]

    def _correction(self, limits: Limits) -> tuple[float, float]:
        """By what factor latencies, and by what difference sizes, are off in the tables."""
        _, then = self._made(limits)
        full = {**self.groups.full_widths(), **self.gone}
        now = self._with_blocks
        was = then.latency_ms(full)
        scale = now.latency_ms(full) / was if was else 1.0
        return scale, now.size_bytes(full) - then.size_bytes(full)


def _row(count: int, index: int, value: float) -> NDArray[np.float64]:
    row = np.zeros(count)
    row[index] = value
    return row


def _tightened(tight: Limits, limits: Limits, usage: Usage) -> Limits:
    """Limits lower by as much as a plan exceeded what was asked for."""
    changed: Mapping[str, float | None] = {
        "latency_ms": _less(tight.latency_ms, limits.latency_ms, usage.latency_ms),
        "size_bytes": _less(tight.size_bytes, limits.size_bytes, usage.size_bytes),
        "macs": _less(tight.macs, limits.macs, usage.macs),
    }
    return replace(
        tight,
        latency_ms=changed["latency_ms"],
        size_bytes=None if changed["size_bytes"] is None else int(changed["size_bytes"]),
        macs=None if changed["macs"] is None else int(changed["macs"]),
    )


def _less(tight: float | None, most: float | None, taken: float) -> float | None:
    if tight is None or most is None or taken <= most:
        return tight
    return tight * most / taken * (1 - 1e-6)
