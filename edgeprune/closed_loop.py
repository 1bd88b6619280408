"""Plan, cut, lower, measure, correct, plan again: until the measured program meets the budget.

Weights do not change latency, so all of this happens before an epoch is spent on training.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeprune.calibrating import PLAIN, Around, calibrate
from edgeprune.candidates import Candidate, Programs
from edgeprune.cost.calibration import Calibration
from edgeprune.cost.resizing import CannotResize
from edgeprune.errors import BudgetError, MeasureError
from edgeprune.measuring import Effort, compare_until, speedup, verdict
from edgeprune.planning import Known, Limits, Planner, planner_for, within
from edgeprune.plans import Plan
from edgeprune.records import Budget, CostModel, Measurement, Progress, Round, Verdict, silent

ROUNDS = 4
"""How many plans are tried; one that hits as resized is measured twice."""
CALIBRATE, DEAR_S = 3, 60.0
_EFFORT = {
    "lowered": Effort(processes=2, rounds=15, max_processes=6, memory=False),
    "resized": Effort(processes=2, rounds=10, max_processes=2, memory=False),
}
"""A resized program decides nothing: where it lies is enough."""
_GLANCE = Effort(processes=1, rounds=5, max_processes=1, memory=False)
"""For budgets that latency has no part in."""
AIM = 0.975
"""Where in the budget the measured median should fall, so that its interval fits too."""
USED_ENOUGH = 0.95
"""A plan that uses this share of every budget it is bound by is good enough to stop at."""


@dataclass(frozen=True)
class Wanted:
    """What the loop is to find. `floor` is the least share of every group that stays.

    `calibrate` is how many programs around the first plan are measured before it; None: three where
    a true lowering takes a minute or more, which is more than they do, else none, because the first
    round is as good.
    """

    budget: Budget
    floor: float = 0.1
    calibrate: int | None = None

    def programs_around(self, lowering_s: float) -> int:
        """How many programs are measured before the first round."""
        if self.budget.latency_ms is None and self.budget.speedup is None:
            return 0
        if self.calibrate is None:
            return CALIBRATE if lowering_s >= DEAR_S else 0
        return self.calibrate


@dataclass(frozen=True)
class Found:
    """The plan the loop ended with, and every round on the way; the plan's notes say why where it
    leaves more than 5 % of the budget unused, and why programs were not resized."""

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

    @property
    def met(self) -> bool:
        return self.round.verdict == "met"

    @property
    def hit(self) -> bool:
        """Whether the budget is met and used: for a resized program, by its median alone."""
        met = self.met if self.true else self.used <= 1
        return met and self.used >= USED_ENOUGH

    @property
    def true(self) -> bool:
        return self.round.made == "lowered"


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
    programs: Programs,
    wanted: Wanted,
    progress: Progress = silent,
) -> Found:
    """The plan whose lowered program, as measured on the target, meets the budget most fully.

    The cost model is set right at full width once. Then the latency that it is asked for is the
    one unknown: raised or lowered by what was measured, within the bracket that earlier rounds
    leave, until a measured program meets the budget and uses it. Where `programs` can resize, a
    round takes a resized program, and what hits is lowered truly and measured again: no other
    program decides. Raises BudgetError when no width the planner may choose is enough, as predicted
    or as measured.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as scratch:
        return _Loop(known, programs, wanted, progress, Path(scratch)).close(cost)


@dataclass
class _Loop:
    known: Known
    programs: Programs
    wanted: Wanted
    progress: Progress
    folder: Path
    tries: list[_Try] = field(default_factory=list)
    line: Calibration = PLAIN
    notes: list[str] = field(default_factory=list)

    @property
    def limit_ms(self) -> float | None:
        return latency_limit(self.wanted.budget, self.programs.baseline.latency_ms)

    def close(self, cost: CostModel) -> Found:
        full, baseline = self.known.sizes, self.programs.baseline
        cost = cost.with_blocks(self.known.blocks.known)
        whole_ms, whole_bytes = baseline.known
        cost = cost.corrected(full, whole_ms).size_corrected(full, whole_bytes)
        planner = planner_for(self.known, cost)
        limit_ms = self.limit_ms
        asked_ms = None if limit_ms is None else limit_ms * AIM
        count = self.wanted.programs_around(baseline.lowering_s)
        if limit_ms is not None and self.programs.seen:
            asked_ms = next_latency(limit_ms, tuple(self.programs.seen))
        elif count and asked_ms is not None:
            near = self._planned(planner, asked_ms)
            self._calibrate(Around(near.widths(), count, cost))
            asked_ms = self.line.inverse(asked_ms)
        for number in range(ROUNDS):
            self.progress("plan", number, ROUNDS, f"round {number + 1} of at most {ROUNDS}")
            try:
                plan = self._planned(planner.with_cost(cost), asked_ms)
            except BudgetError:
                if any(t.met for t in self.tries):
                    break
                if self.tries:
                    raise _out_of_reach(self.tries, limit_ms) from None
                raise
            if any(plan.widths() == t.plan.widths() for t in self.tries):
                break  # between two neighbouring steps of the staircase there is nothing
            attempt = self._round(plan, asked_ms)
            if attempt.hit and not attempt.true:
                attempt = self._confirmed(attempt)
            if attempt.hit:
                break
            cost = cost.size_corrected(plan.widths(), attempt.round.size_bytes)
            if limit_ms is not None:
                asked_ms = next_latency(limit_ms, tuple(_point(t) for t in self._last_of_each()))
        best = self._best()
        notes = (*best.plan.notes, *_unused(best, full), *dict.fromkeys(self.notes))
        plan = replace(best.plan, notes=notes, predicted_ms=best.round.predicted_ms)
        return Found(plan, tuple(t.round for t in self.tries))

    def _planned(self, planner: Planner, asked_ms: float | None) -> Plan:
        asked = replace(limits_of(self.wanted.budget, asked_ms), floor=self.wanted.floor)
        return within(self.known, planner, asked)

    def _calibrate(self, asked: Around) -> None:
        """Learns the line between predictions and measurements, where programs are resized."""
        self.progress("plan", 0, ROUNDS, f"calibrating on {asked.count} programs")
        try:
            self.line = calibrate(self.programs, asked, self.folder)
        except (CannotResize, MeasureError) as why:
            self.notes.append(f"costs were not calibrated on whole programs: {why}")
            return
        off = [abs(error) for error in self.line.held_out]
        self.notes.append(
            f"costs were calibrated on {asked.count} programs around the first plan: those left "
            f"out were predicted to {statistics.median(off):.1%} (median; at worst {max(off):.1%})"
        )

    def _round(self, plan: Plan, asked_ms: float | None) -> _Try:
        path = self.folder / "candidate.pte"
        if self.programs.ready:
            try:
                return self._tried(plan, self.programs.resized(plan, path), asked_ms)
            except CannotResize as why:
                self.notes.append(f"a round's program was lowered, not resized: {why}")
            except MeasureError as why:
                self.programs.refused = f"a resized program did not run: {why}"
                self.notes.append(self.programs.refused)
        return self._tried(plan, self.programs.lowered(plan, path), asked_ms)

    def _confirmed(self, attempt: _Try) -> _Try:
        """The same plan with its true program."""
        made = self.programs.lowered(attempt.plan, self.folder / "candidate.pte")
        return self._tried(attempt.plan, made, attempt.asked_ms)

    def _tried(self, plan: Plan, made: Candidate, asked_ms: float | None) -> _Try:
        attempt = _measured(plan, made, self.programs, (self.wanted.budget, asked_ms))
        if plan.predicted_ms is not None:
            told = replace(attempt.round, predicted_ms=self.line.at(plan.predicted_ms))
            attempt = replace(attempt, round=told)
        self.tries.append(attempt)
        if attempt.asked_ms is not None:
            self.programs.seen.append(_point(attempt))
        self.progress("plan", len(self.tries), ROUNDS, _told(attempt.round))
        return attempt

    def _last_of_each(self) -> list[_Try]:
        """The tries by plan: the true program where it was measured."""
        latest = {tuple(sorted(t.plan.widths().items())): t for t in self.tries}
        return list(latest.values())

    def _best(self) -> _Try:
        """Of the true programs the one that meets the budget most fully, else is nearest to it.

        A resized one that promises more is lowered first.
        """
        while True:
            met = [t for t in self._last_of_each() if t.met]
            best = max(met, key=lambda t: t.used) if met else None
            best = best or min(self._last_of_each(), key=lambda t: t.used)
            if best.true:
                return best
            self._confirmed(best)


def limits_of(budget: Budget, latency_ms: float | None) -> Limits:
    """What a plan must stay within for a budget, its latency as asked of the cost model."""
    return Limits(latency_ms, budget.size_bytes, memory_bytes=budget.memory_bytes, macs=budget.macs)


def _unused(best: _Try, full: Mapping[str, int]) -> tuple[str, ...]:
    """Why a budget is not used up, where it is not."""
    if best.used >= USED_ENOUGH:
        return ()
    share = f"the program uses {best.used:.1%} of the budget"
    whole = all(best.plan.widths()[name] == size for name, size in full.items())
    if whole and not best.plan.dropped:
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
    plan: Plan, made: Candidate, programs: Programs, asked: tuple[Budget, float | None]
) -> _Try:
    budget, asked_ms = asked
    baseline = programs.baseline
    limit_ms = latency_limit(budget, baseline.latency_ms)
    before, after = compare_until(
        [baseline.path, made.path],
        programs.target,
        _GLANCE if limit_ms is None else _EFFORT[made.made],
        lambda both: judge(both[0], both[1], made.size_bytes, budget)[0] != "undecidable",
    )
    found, _ = judge(before, after, made.size_bytes, budget)
    # the machine may have drifted since the baseline was measured: both sides drift alike
    ratio, _ = speedup(before, after)
    latency_ms = after.median_ms if budget.latency_ms is not None else baseline.latency_ms / ratio
    used = max(
        latency_ms / limit_ms if limit_ms is not None else 0.0,
        made.size_bytes / budget.size_bytes if budget.size_bytes is not None else 0.0,
    )
    turn = Round(
        limit_ms,
        plan.predicted_ms,
        latency_ms,
        made.size_bytes,
        found,
        importance=plan.importance,
        gap=plan.gap,
        made=made.made,
    )
    return _Try(plan, turn, asked_ms, used)


def _told(turn: Round) -> str:
    return (
        f"predicted {turn.predicted_ms:.4g} ms, measured {turn.measured_ms:.4g} ms "
        f"({turn.made}): {turn.verdict}"
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
