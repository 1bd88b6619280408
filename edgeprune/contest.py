"""`--criterion auto`: several plans for one budget, and the validation split says which is best.

What goes decides more than how the rest is trained, and no criterion is best for all networks.
Here every entrant's plan trusts the cost model; the winner is planned again by the closed loop, as
if it had been asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from edgeprune import mending, ranks, stages
from edgeprune.blocks import blocks
from edgeprune.choices import AUTO
from edgeprune.closed_loop import AIM, latency_limit, limits_of
from edgeprune.errors import BudgetError
from edgeprune.iterative import Standing
from edgeprune.planning import Limits, plan_within
from edgeprune.plans import Plan
from edgeprune.records import Artifact, CostModel, Metric, Scores
from edgeprune.scoring import score
from edgeprune.stages import Work
from edgeprune.surgery import kept_positions, prune

CRITERIA = ("taylor", "l2")
"""The cheapest criterion that reads data, and the one that has done best where blocks may go."""

JUDGED = 1024
"""Validation samples that a trial is judged by: a standard error of 1.6 points at most, where the
entrants are mostly further apart."""


@dataclass(frozen=True)
class Entrant:
    """One way to choose what goes."""

    criterion: str
    drop_blocks: bool

    @property
    def name(self) -> str:
        return f"{self.criterion} with blocks" if self.drop_blocks else self.criterion


@dataclass(frozen=True)
class Tried:
    """What an entrant's plan leaves of the metric before any training; None where no plan of its
    kind is within the budget."""

    metric: Metric | None
    note: str


def entered(
    work: Work, start: Standing, known: tuple[CostModel, Artifact]
) -> tuple[Work, mending.Told]:
    """The work with the criterion that does best on the validation split, and a line on every one
    that was tried; the work as it is, unless its criterion is "auto".

    Every trial is a stage of the run. Raises BudgetError where no plan is within the budget.
    """
    if work.options.criterion != AUTO:
        return work, {}
    contest = _Contest(work, start, *known)
    tried = {entrant: contest.tried(entrant) for entrant in _entrants(start)}
    best: tuple[Entrant, Metric] | None = None
    for entrant, found in tried.items():
        if found.metric is not None and (best is None or mending.better(found.metric, best[1])):
            best = entrant, found.metric
    if best is None:
        raise BudgetError(next(iter(tried.values())).note)
    told = {
        _stage(entrant): (found.metric, found.note + (", chosen" if entrant == best[0] else ""))
        for entrant, found in tried.items()
    }
    options = replace(work.options, criterion=best[0].criterion, drop_blocks=best[0].drop_blocks)
    return replace(work, options=options), told


def _entrants(start: Standing) -> tuple[Entrant, ...]:
    """Every criterion on channels alone, then with blocks where the network has any."""
    ways = (False, True) if blocks(start.whole) else (False,)
    return tuple(Entrant(criterion, way) for way in ways for criterion in CRITERIA)


def _stage(entrant: Entrant) -> str:
    return f"try {entrant.name}"


@dataclass
class _Contest:
    work: Work
    start: Standing
    cost: CostModel
    baseline: Artifact
    scores: dict[str, Scores] = field(default_factory=dict)

    def tried(self, entrant: Entrant) -> Tried:
        """An entrant's plan, cut and mended as far as that needs no labels."""
        stage = _stage(entrant)

        def compute() -> Tried:
            self.work.progress(stage, 0, 0, "plan, statistics, reconstruction")
            try:
                plan = self._planned(entrant)
            except BudgetError as error:
                return Tried(None, str(error))
            small = prune(self.start.whole, plan)
            stay = kept_positions(self.start.whole, plan)
            cut = mending.Cut(self.start.current, small, stay, None, judged=JUDGED)
            metric = mending.untrained(self.work, cut)
            kept, of = sum(plan.widths().values()), sum(plan.sizes.values())
            blocks = f", {len(plan.dropped)} blocks dropped" if entrant.drop_blocks else ""
            return Tried(metric, f"{kept} of {of} channels{blocks}, before any training")

        return self.work.run.stage(stage, Tried, compute, together=True)

    def _planned(self, entrant: Entrant) -> Plan:
        options = replace(
            self.work.options, criterion=entrant.criterion, drop_blocks=entrant.drop_blocks
        )
        if entrant.criterion not in self.scores:
            start = self.start
            self.scores[entrant.criterion] = score(
                start.current, start.left, entrant.criterion, self.work.data
            )
        known = stages.known_of(
            replace(self.work, options=options), self.start, self.scores[entrant.criterion]
        )
        cost, limits = self._priced
        text = ranks.one_for_all(lambda: plan_within(known, cost, limits).to_json())
        return Plan.from_json(text)

    @cached_property
    def _priced(self) -> tuple[CostModel, Limits]:
        """The costs, set right at full width, and what a plan must stay within."""
        options = self.work.options
        base = ranks.one_for_all(lambda: stages.measured_baseline(self.work, self.baseline))
        whole_ms, whole_bytes = base.known
        widths = self.start.full.full_widths()
        cost = self.cost.corrected(widths, whole_ms).size_corrected(widths, whole_bytes)
        limit_ms = latency_limit(options.budget, base.latency_ms)
        asked_ms = None if limit_ms is None else limit_ms * AIM
        return cost, replace(limits_of(options.budget, asked_ms), floor=options.floor)
