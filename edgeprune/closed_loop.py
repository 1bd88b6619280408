"""Plan, cut, lower, measure, correct, plan again: until the measured program meets the budget.

Weights do not change latency, so all of this happens before an epoch is spent on training.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune.errors import BudgetError
from edgeprune.lowering import lower_for_latency
from edgeprune.measuring import Effort, compare, speedup, verdict
from edgeprune.planning import Known, Limits, planner_for, within
from edgeprune.plans import Plan
from edgeprune.records import (
    Artifact,
    Budget,
    CostModel,
    Measurement,
    Progress,
    Round,
    Target,
    Verdict,
    silent,
)
from edgeprune.surgery import prune

ROUNDS = 4
AIM = 0.975
"""Where in the budget the measured median should fall, so that its interval fits too."""
USED_ENOUGH = 0.95
"""A plan that uses this share of every budget it is bound by is good enough to stop at."""


@dataclass(frozen=True)
class Baseline:
    """The full network's program and its measured latency."""

    path: Path
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Found:
    """The plan the loop ended with, and every round on the way; the plan's notes say why where it
    leaves more than 5 % of the budget unused."""

    plan: Plan
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class _Try:
    plan: Plan
    round: Round
    asked_ms: float | None
    """What the cost model was asked to stay within."""
    used: float
    """The largest share of a budget that the measured program uses."""


def latency_limit(budget: Budget, baseline_ms: float) -> float | None:
    """The latency that a budget comes to, milliseconds: the tighter of its two ways to say it."""
    limits = [budget.latency_ms] if budget.latency_ms is not None else []
    if budget.speedup is not None:
        limits.append(baseline_ms / budget.speedup)
    return min(limits) if limits else None


def judge(
    before: Measurement, after: Measurement, size_bytes: int, budget: Budget
) -> tuple[Verdict, tuple[str, ...]]:
    """Whether a measured program meets a budget, at 95 %, and why not.

    Both measurements must come from one interleaved session. A speed-up is judged by the interval
    of the ratio, so that a machine that slows down slows both sides.
    """
    verdicts: list[Verdict] = []
    reasons = []
    if budget.latency_ms is not None:
        verdicts.append(verdict(after.interval_ms, budget.latency_ms))
        if verdicts[-1] != "met":
            low, high = after.interval_ms
            reasons.append(
                f"latency {after.median_ms:.4g} ms (95 %: {low:.4g} to {high:.4g}), budget "
                f"{budget.latency_ms:.4g} ms"
            )
    if budget.speedup is not None:
        ratio, (low, high) = speedup(before, after)
        met: Verdict = "missed" if high < budget.speedup else "undecidable"
        verdicts.append("met" if low >= budget.speedup else met)
        if verdicts[-1] != "met":
            reasons.append(
                f"speed-up {ratio:.3g} (95 %: {low:.3g} to {high:.3g}), wanted {budget.speedup:.3g}"
            )
    if budget.size_bytes is not None:
        verdicts.append("met" if size_bytes <= budget.size_bytes else "missed")
        if verdicts[-1] != "met":
            reasons.append(f"size {size_bytes} bytes, budget {budget.size_bytes}")
    return worst(verdicts), tuple(reasons)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Missed if any is, undecidable if any is, else met."""
    order: tuple[Verdict, ...] = ("missed", "undecidable", "met")
    return next(v for v in order if v in verdicts)


def close_the_loop(
    known: Known,
    cost: CostModel,
    baseline: Baseline,
    wanted: tuple[Budget, Target],
    progress: Progress = silent,
    *,
    floor: float = 0.1,
) -> Found:
    """The plan whose lowered program, as measured on the target, meets the budget most fully.

    The cost model is set right at full width once. Then the latency that it is asked for is the
    one unknown: raised or lowered by what was measured, within the bracket that earlier rounds
    leave, until a measured program meets the budget and uses it. Raises BudgetError when no width
    the planner may choose is enough, as predicted or as measured.
    """
    budget, target = wanted
    full = known.sizes
    limit_ms = latency_limit(budget, baseline.latency_ms)
    cost = cost.with_blocks(known.blocks.known)
    cost = cost.corrected(full, baseline.latency_ms).size_corrected(full, baseline.size_bytes)
    planner = planner_for(known, cost)
    asked_ms = None if limit_ms is None else limit_ms * AIM
    tries: list[_Try] = []
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as scratch:
        candidate = Path(scratch) / "candidate.pte"
        for number in range(ROUNDS):
            progress("plan", number, ROUNDS, f"round {number + 1} of at most {ROUNDS}")
            try:
                asked = replace(limits_of(budget, asked_ms), floor=floor)
                plan = within(known, planner.with_cost(cost), asked)
            except BudgetError:
                if any(t.round.verdict == "met" for t in tries):
                    break
                if tries:
                    raise _out_of_reach(tries, limit_ms) from None
                raise
            if any(plan.widths() == t.plan.widths() for t in tries):
                break  # between two neighbouring steps of the staircase there is nothing
            artifact = lower_for_latency(prune(known.graph, plan), target, candidate)
            attempt = _measured(plan, artifact, baseline, (budget, target, asked_ms))
            tries.append(attempt)
            progress("plan", number + 1, ROUNDS, _told(attempt.round))
            if attempt.round.verdict == "met" and attempt.used >= USED_ENOUGH:
                break
            cost = cost.size_corrected(plan.widths(), artifact.size_bytes)
            if limit_ms is not None:
                asked_ms = next_latency(limit_ms, tuple(_point(t) for t in tries))
    met = [t for t in tries if t.round.verdict == "met"]
    best = max(met, key=lambda t: t.used) if met else min(tries, key=lambda t: t.used)
    plan = replace(best.plan, notes=(*best.plan.notes, *_unused(best, full)))
    return Found(plan, tuple(t.round for t in tries))


def limits_of(budget: Budget, latency_ms: float | None) -> Limits:
    """What a plan must stay within for a budget, its latency as asked of the cost model."""
    return Limits(latency_ms, budget.size_bytes, memory_bytes=budget.memory_bytes, macs=budget.macs)


def _unused(best: _Try, full: Mapping[str, int]) -> tuple[str, ...]:
    """Why a budget is not used up, where it is not."""
    if best.used >= USED_ENOUGH:
        return ()
    share = f"the program uses {best.used:.1%} of the budget"
    if all(best.plan.widths()[name] == size for name, size in full.items()):
        return (f"{share}: the full network already meets it",)
    return (f"{share}: no plan was found between that and the next step of the costs",)


def next_latency(limit_ms: float, points: tuple[tuple[float, float], ...]) -> float:
    """What to ask the cost model for next, given (asked, measured) latencies of earlier rounds.

    The last round's error is taken for the error here. From two rounds on, the measured latency is
    taken to go with a power of what was asked, as the two nearest to the goal have it; once there
    are rounds on both sides of the goal, the answer lies between the nearest two of them.
    """
    goal = limit_ms * AIM
    over = [p for p in points if p[1] > goal]
    under = [p for p in points if p[1] <= goal]
    if not over or not under:
        near = sorted(points, key=lambda p: abs(math.log(p[1] / goal)))[:2]
        nearest: float = near[0][0] * (goal / near[0][1]) ** (1 / _power(near))
        return nearest
    low = max(under, key=lambda p: p[0])
    high = min(over, key=lambda p: p[0])
    if high[0] <= low[0]:  # noise: the smaller one measured slower
        return low[0] * 0.5 + high[0] * 0.5
    asked: float = low[0] * (goal / low[1]) ** (1 / _power([low, high]))
    share = (asked - low[0]) / (high[0] - low[0])
    return low[0] + min(max(share, 0.1), 0.9) * (high[0] - low[0])


def _power(points: Sequence[tuple[float, float]]) -> float:
    """How steeply measured latencies rise with asked ones; 1 where two points do not tell."""
    if len(points) < 2 or points[0][0] == points[1][0]:
        return 1.0
    (one, first), (two, second) = points
    return min(max(math.log(first / second) / math.log(one / two), 0.4), 2.5)


def _point(attempt: _Try) -> tuple[float, float]:
    assert attempt.asked_ms is not None
    assert attempt.round.measured_ms is not None
    return attempt.asked_ms, attempt.round.measured_ms


def _measured(
    plan: Plan,
    artifact: Artifact,
    baseline: Baseline,
    asked: tuple[Budget, Target, float | None],
) -> _Try:
    budget, target, asked_ms = asked
    limit_ms = latency_limit(budget, baseline.latency_ms)
    for processes in (2, 5):
        effort = Effort(processes=processes, rounds=15)
        before, after = compare([baseline.path, artifact.path], target, effort)
        found, _ = judge(before, after, artifact.size_bytes, budget)
        if found != "undecidable":
            break
    # the machine may have drifted since the baseline was measured: both sides drift alike
    ratio, _ = speedup(before, after)
    latency_ms = after.median_ms if budget.latency_ms is not None else baseline.latency_ms / ratio
    used = max(
        latency_ms / limit_ms if limit_ms is not None else 0.0,
        artifact.size_bytes / budget.size_bytes if budget.size_bytes is not None else 0.0,
    )
    turn = Round(
        limit_ms,
        plan.predicted_ms,
        latency_ms,
        artifact.size_bytes,
        found,
        importance=plan.importance,
        gap=plan.gap,
    )
    return _Try(plan, turn, asked_ms, used)


def _told(turn: Round) -> str:
    return (
        f"predicted {turn.predicted_ms:.4g} ms, measured {turn.measured_ms:.4g} ms: {turn.verdict}"
    )


def _out_of_reach(tries: list[_Try], limit_ms: float | None) -> BudgetError:
    smallest = min(t.round.measured_ms or float("inf") for t in tries)
    least = min(t.round.size_bytes for t in tries)
    wanted = f"{limit_ms:.4g} ms" if limit_ms is not None else "the size asked for"
    return BudgetError(
        f"the budget of {wanted} cannot be met: the smallest program measured takes "
        f"{smallest:.4g} ms and {least / 1e6:.4g} MB, and the planner has nothing left to remove. "
        f"Try --budget-ms {smallest * 1.05:.4g}, or a smaller model"
    )
