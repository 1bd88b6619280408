"""The earlier rounds of iterative pruning in `fit`: plan, cut, train, and again.

The last round is the ordinary one of pipeline.py, with the closed loop. Earlier ones trust the cost
model, corrected at full width: they only have to stay above what the last one aims at.
"""

from __future__ import annotations

from dataclasses import replace

from edgeprune import findings, mending, stages
from edgeprune.closed_loop import AIM, latency_limit
from edgeprune.iterative import Standing, cut_further, positions_left, schedule
from edgeprune.planning import Limits, plan_within
from edgeprune.plans import Plan
from edgeprune.records import Artifact, CostModel, Graph, Metric
from edgeprune.recovery.features import matches
from edgeprune.scoring import score
from edgeprune.stages import Work
from edgeprune.surgery import kept_positions, prune

Known = dict[str, tuple[Metric | None, str]]


def early_rounds(
    work: Work, cut: Standing, known: tuple[CostModel, Artifact]
) -> tuple[Standing, Known]:
    """All rounds but the last: where the cuts stand, and what the report says of each stage.

    Every round is five stages of the run: "plan 1 of 3", "cut 1 of 3", "statistics 1 of 3",
    "reconstruct 1 of 3", "recover 1 of 3". Raises
    BudgetError before anything is trained if the final budget is predicted to be out of reach.
    """
    told: Known = {}
    rounds = work.options.rounds
    if rounds == 1:
        return cut, told
    full, teacher = cut.left, cut.current
    cost, baseline = known
    widths = full.full_widths()

    def limits() -> list[list[float | None]]:
        base = stages.measured_baseline(work, baseline)
        budget, (whole_ms, whole_bytes) = work.options.budget, base.known
        final = latency_limit(budget, base.latency_ms)
        latency: list[float | None] = [None] * rounds
        if final is not None:
            latency = [*schedule(whole_ms, final * AIM, rounds)]
        size: list[float | None] = [None] * rounds
        if budget.size_bytes is not None:
            size = [*schedule(whole_bytes, budget.size_bytes, rounds)]
        return [[whole_ms, whole_bytes], latency, size]

    whole, latency, size = work.run.stage("schedule", list[list[float | None]], limits)
    whole_ms, whole_bytes = whole
    assert whole_ms is not None
    assert whole_bytes is not None
    cost = cost.corrected(widths, whole_ms).size_corrected(widths, int(whole_bytes))
    asked = [
        Limits(ms, None if most is None else int(most), work.options.floor)
        for ms, most in zip(latency, size, strict=True)
    ]
    for number, limit in enumerate(asked[:-1], 1):
        of = f"{number} of {rounds}"
        final = asked[-1] if number == 1 else None
        plan = _planned(work, f"plan {of}", cut, (cost, limit, final))
        current = prune(cut.whole, plan)
        metric = stages.check(work, f"cut {of}", current)
        stay = kept_positions(cut.whole, plan)
        this = mending.Cut(cut.current, current, positions_left(cut, stay), metric, f" {of}")
        current, _, mended = mending.mend(work, this)
        same = matches(teacher, current, stay)
        current, training = _recovered(work, number, current, mending.Teacher(teacher, same))
        kept, all_of = sum(plan.widths().values()), sum(plan.sizes.values())
        told |= {
            f"plan {of}": (None, f"{kept} of {all_of} channels, {_predicted(plan)}"),
            f"cut {of}": (metric, "before any recovery"),
            **mended,
            f"recover {of}": findings.outcome(training),
        }
        cut = cut_further(cut, plan, current)
    return cut, told


def _planned(
    work: Work, name: str, cut: Standing, asked: tuple[CostModel, Limits, Limits | None]
) -> Plan:
    """A plan of the full network within the round's limits; the final ones are tried first."""
    cost, limit, final = asked
    scores = None
    if not work.run.finished(name):
        work.progress(name, 0, 0, work.criterion)
        scores = score(cut.current, cut.left, work.criterion, work.data)

    def compute() -> str:
        assert scores is not None
        known = stages.known_of(work, cut, scores)
        if final is not None:
            plan_within(known, cost, final)
        return plan_within(known, cost, limit).to_json()

    return Plan.from_json(work.run.stage(name, str, compute))


def _recovered(
    work: Work, number: int, current: Graph, teacher: mending.Teacher
) -> tuple[Graph, findings.Training | None]:
    """Short training: the recipe's epochs, shared among the rounds, one at least."""
    recipe = work.options.recipe
    if work.data is None or not recipe.epochs:
        return current, None
    short = replace(recipe, epochs=max(1, recipe.epochs // work.options.rounds))
    stage = (f"recover {number} of {work.options.rounds}", f"weights-{number}.safetensors")
    return mending.trained(work, stage, current, short, teacher)


def _predicted(plan: Plan) -> str:
    return f"predicted {plan.predicted_ms:.4g} ms" if plan.predicted_ms is not None else ""
