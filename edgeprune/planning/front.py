"""The whole front of one network: the best plan for each of several speed-ups, in one session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from edgeprune.errors import BudgetError
from edgeprune.planning import Known, planner_for, within
from edgeprune.planning.limits import Limits
from edgeprune.plans import Plan
from edgeprune.records import CostModel, Progress, silent


@dataclass(frozen=True)
class Point:
    """One speed-up of the front: its plan, or why there is none. `seconds` is what solving took."""

    speedup: float
    plan: Plan | None
    seconds: float
    why: str = ""


def front(
    known: Known,
    cost: CostModel,
    speedups: Sequence[float],
    limits: Limits,
    progress: Progress = silent,
) -> tuple[Point, ...]:
    """The plans for `speedups` over the full network's predicted latency, all within the other
    `limits` too; what there is to choose is tabulated once. Out of reach is a point without plan.
    """
    planner = planner_for(known, cost)
    full = cost.latency_ms(known.sizes)
    found = []
    for number, speedup in enumerate(speedups):
        progress("front", number, len(speedups), f"{speedup:g}×")
        start = monotonic()
        plan, why = None, ""
        try:
            plan = within(known, planner, replace(limits, latency_ms=full / speedup))
        except BudgetError as error:
            why = str(error)
        found.append(Point(speedup, plan, monotonic() - start, why))
    progress("front", len(speedups), len(speedups))
    return tuple(found)
