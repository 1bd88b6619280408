"""`--criterion auto`: several plans for one budget, and the validation split says which is best.

What goes decides more than how the rest is trained, and no criterion is best for all networks. The
importance of a block is on another scale than that of channels, so which blocks go is settled by
trying, too. Here every plan trusts the cost model; the winner is planned again by the closed loop,
as if it had been asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from edgeprune import mending, ranks, stages
from edgeprune.blocks import blocks
from edgeprune.choices import AUTO
from edgeprune.closed_loop import AIM, latency_limit, limits_of
from edgeprune.errors import BudgetError
from edgeprune.iterative import Standing
from edgeprune.planning import Known, Limits, plan_within
from edgeprune.plans import Plan
from edgeprune.records import Artifact, CostModel, Metric, Scores
from edgeprune.scoring import score
from edgeprune.stages import Work
from edgeprune.surgery import kept_positions, prune

CRITERIA = ("taylor", "l2")
"""The cheapest criterion that reads data, and the one that has done best where blocks may go."""

JUDGED = 2048
"""Validation samples that a trial is judged by: a standard error of 1.1 points at most, and less
between two trials, which look at the same samples."""

TRIALS = 16
"""How many trials put blocks back."""


@dataclass(frozen=True)
class Entrant:
    """One way to choose what goes: a criterion, whether it may drop blocks, and the blocks that go
    in any case. `back` are those that were put back, for its name."""

    criterion: str
    drop_blocks: bool
    drop: tuple[str, ...] = ()
    back: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """As the report has it."""
        some = " with blocks" if self.drop_blocks or self.back else ""
        return f"{self.criterion}{some}{' but ' if self.back else ''}{', '.join(self.back)}"


@dataclass(frozen=True)
class Tried:
    """What an entrant's plan leaves of the metric before any training, None where no plan of its
    kind is within the budget; and which blocks it drops, the most important first."""

    metric: Metric | None
    note: str
    dropped: tuple[str, ...] = ()


def entered(
    work: Work, start: Standing, known: tuple[CostModel, Artifact]
) -> tuple[Work, mending.Told]:
    """The work with the criterion, and the blocks to drop, that do best on the validation split,
    and a line on everything that was tried; the work as it is, unless its criterion is "auto".

    Every criterion is tried on channels alone, then with blocks where the network has any. The
    blocks that the best of the latter drops are put back one after the other, which thins the rest;
    what is better stays so. Every trial is a stage of the run. Raises BudgetError where no plan is
    within the budget.
    """
    if work.options.criterion != AUTO:
        return work, {}
    contest = _Contest(work, start, *known)
    ways = (False, True) if blocks(start.whole) else (False,)
    for way, criterion in product(ways, CRITERIA):
        contest.enter(Entrant(criterion, way, work.options.drop))
    if contest.best() is None:
        raise BudgetError(next(iter(contest.tried.values())).note)
    contest.put_back()
    best = contest.best()
    assert best is not None
    told = {
        _stage(entrant): (found.metric, found.note + (", chosen" if entrant == best else ""))
        for entrant, found in contest.tried.items()
    }
    return _asked_as(work, best), told


def _asked_as(work: Work, entrant: Entrant) -> Work:
    """The work as if the entrant had been asked for."""
    options = replace(
        work.options,
        criterion=entrant.criterion,
        drop_blocks=entrant.drop_blocks,
        drop=entrant.drop,
    )
    return replace(work, options=options)


def _stage(entrant: Entrant) -> str:
    return f"try {entrant.name}"


@dataclass
class _Contest:
    """What was tried."""

    work: Work
    start: Standing
    cost: CostModel
    baseline: Artifact
    tried: dict[Entrant, Tried] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)

    def enter(self, entrant: Entrant) -> Tried:
        """What comes of an entrant, tried now if it was not before."""
        if entrant not in self.tried:
            self.tried[entrant] = self._outcome(entrant)
        return self.tried[entrant]

    def best(self, *, dropping: bool = False) -> Entrant | None:
        """The best of what was tried, of equals the earlier; None where nothing has a plan. Only of
        what drops blocks, if asked for."""
        held: Entrant | None = None
        for entrant, found in self.tried.items():
            if (found.dropped or not dropping) and self._better(found, held):
                held = entrant
        return held

    def _better(self, found: Tried, held: Entrant | None) -> bool:
        """Whether an outcome is better than that of `held`, which has a metric."""
        known = None if held is None else self.tried[held].metric
        return found.metric is not None and (known is None or found.metric.better_than(known))

    def put_back(self) -> None:
        """Put blocks back, of those that the best one with blocks drops, the most important first,
        for as long as that is better, or for `TRIALS` trials.

        It need not be the best of all yet: a criterion's own choice of blocks can be worse than
        none, and become better than all by one that is put back.
        """
        held = self.best(dropping=True)
        if held is None:
            return
        dropped = self.tried[held].dropped
        order = [name for name in dropped if name not in self.work.options.drop]
        most, improved = len(self.tried) + TRIALS, True
        while improved:
            improved = False
            for name in order:
                back = tuple(n for n in order if n == name or n in held.back)
                stay = tuple(n for n in dropped if n not in back)
                trial = Entrant(held.criterion, False, stay, back)
                if trial in self.tried or len(self.tried) >= most:
                    continue
                if self._better(self.enter(trial), held):
                    held, improved = trial, True

    def _outcome(self, entrant: Entrant) -> Tried:
        """An entrant's plan, cut and mended as far as that needs no labels."""
        stage = _stage(entrant)

        def compute() -> Tried:
            self.work.progress(stage, 0, 0, "plan, statistics, reconstruction")
            known = self._known(entrant)
            cost, limits = self._priced
            try:
                text = ranks.one_for_all(lambda: plan_within(known, cost, limits).to_json())
            except BudgetError as error:
                return Tried(None, str(error))
            plan = Plan.from_json(text)
            small = prune(self.start.whole, plan)
            stay = kept_positions(self.start.whole, plan)
            cut = mending.Cut(self.start.current, small, stay, None, judged=JUDGED)
            metric = mending.untrained(self.work, cut)
            kept, of = sum(plan.widths().values()), sum(plan.sizes.values())
            gone = f", {len(plan.dropped)} blocks dropped" if plan.dropped else ""
            note = f"{kept} of {of} channels{gone}, before any training"
            worth = known.blocks.importance
            return Tried(metric, note, tuple(sorted(plan.dropped, key=lambda b: -worth.get(b, 0))))

        return self.work.run.stage(stage, Tried, compute, together=True)

    def _known(self, entrant: Entrant) -> Known:
        """What an entrant's plan rests on."""
        start, name = self.start, entrant.criterion
        if name not in self.scores:
            self.scores[name] = score(start.current, start.left, name, self.work.data)
        return stages.known_of(_asked_as(self.work, entrant), start, self.scores[name])

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
