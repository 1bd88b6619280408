"""What `edgeprune plan` does with its options: one plan, a front of plans, or a check of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeprune.choices import Strategy
from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
from edgeprune.cli.progress import progress
from edgeprune.records import Budget, Progress, Sparsity, Target
from edgeprune.rules import Rules
from edgeprune.units import show_bytes, show_ms, show_seconds

if TYPE_CHECKING:
    from edgeprune.planning import Known, Limits
    from edgeprune.planning.front import Point
    from edgeprune.plans import Plan
    from edgeprune.records import CostModel

NOT_WITHIN = 3


@dataclass(frozen=True)
class Basis:
    """What to plan for; without a target nothing is predicted."""

    model: ModelChoice
    data: DataChoice
    target: Target | None
    criterion: str | None


@dataclass(frozen=True)
class Wishes:
    """What the plan should be."""

    budget: Budget
    rules: Rules
    importance: float | None = None
    share: float | None = None
    strategy: Strategy | None = None
    floor: float = 0.1
    drop: tuple[str, ...] = ()
    drop_blocks: bool = False
    time_limit: float = 10.0
    sparsity: Sparsity | None = None

    def limits(self, full_ms: float) -> Limits:
        """What a plan must stay within, for a network that takes `full_ms` as predicted."""
        from edgeprune.planning import Limits

        wanted = self.budget
        latency = [wanted.latency_ms] if wanted.latency_ms is not None else []
        if wanted.speedup is not None:
            latency.append(full_ms / wanted.speedup)
        return Limits(
            min(latency, default=None),
            wanted.size_bytes,
            self.floor,
            wanted.memory_bytes,
            wanted.macs,
            self.importance,
        )


@dataclass(frozen=True)
class _Loaded:
    known: Known
    cost: CostModel | None
    names: tuple[str, ...] = field(default=())


def show_plan(basis: Basis, wishes: Wishes, path: Path, json: bool) -> None:
    """Makes one plan, writes it to `path`, and says what it keeps."""
    with progress() as report:
        loaded = _load(basis, wishes, report)
        made, seconds = _made(loaded, wishes, report)
    if basis.target is not None:
        made = replace(made, target=basis.target.name)
    made = replace(made, sparsity=wishes.sparsity)
    text = made.to_json()
    path.write_text(text, encoding="utf-8")
    if json:
        show.line(text.rstrip("\n"))
        return
    kept = sum(len(channels) for channels in made.kept.values())
    groups = loaded.known.groups.groups
    total = sum(group.size for group in groups)
    show.line(f"{path}: keeps {kept} of {total} channels in {len(groups)} groups")
    _tell(made, seconds)


def show_front(
    basis: Basis,
    wishes: Wishes,
    speedups: tuple[float, ...],
    files: tuple[Path, Path | None],
    json: bool,
) -> None:
    """Makes a plan for every speed-up, writes them as JSON, and shows them as a table."""
    from edgeprune.planning.front import front

    with progress() as report:
        loaded = _load(basis, wishes, report)
        cost = loaded.cost
        assert cost is not None
        full = cost.latency_ms(loaded.known.sizes)
        points = front(loaded.known, cost, speedups, wishes.limits(full), report)
    path, picture = files
    name = loaded.known.graph.name
    document = {
        "schema": "edgeprune-front/1",
        "model": name,
        "target": basis.target.name if basis.target is not None else None,
        "full_ms": round(full, 6),
        "full_bytes": cost.size_bytes(loaded.known.sizes),
        "points": [_point(point) for point in points],
    }
    path.write_text(show.dumped(document) + "\n", encoding="utf-8")
    made = [p for p in points if p.plan is not None]
    if picture is not None and made:
        picture.write_text(_drawn(name, made), encoding="utf-8")
    if json:
        show.document(document)
    else:
        _show_table(points)
        show.line(f"{path}: {len(made)} plans")
        for point in points:
            if point.plan is None:
                show.line(f"{point.speedup:g}×: {point.why}")
    if not made:
        raise typer.Exit(NOT_WITHIN)


def check_file(basis: Basis, wishes: Wishes, path: Path, json: bool) -> None:
    """Checks a plan file against its model, and says what it is predicted to take; ends with 3
    where that is more than a budget that was given."""
    from edgeprune.planning import planner_for
    from edgeprune.planning.levels import Importance
    from edgeprune.plans import Plan, check_plan

    plan = Plan.from_json(path.read_text("utf-8"))
    with progress() as report:
        loaded = _load(basis, wishes, report)
        known, cost = loaded.known, loaded.cost
        check_plan(plan, known.groups, [block.name for block in known.blocks.known])
        assert cost is not None
        planner = planner_for(known, cost)
        limits = wishes.limits(cost.latency_ms(known.sizes))
        usage = planner.usage(plan.widths(), limits)
    importance = Importance(known.groups, known.scores)
    kept = importance.kept(plan.widths()) / max(importance.full(), 1e-30)
    within = not limits.exceeded(usage)
    if json:
        show.document({"plan": path, "usage": usage, "importance": kept, "within": within})
    else:
        show.line(f"{path}: fits {known.graph.name}")
        if plan.dropped:
            show.line(f"drops {', '.join(plan.dropped)}")
        show.line(
            f"predicted: {show_ms(usage.latency_ms)}, .pte of {show_bytes(usage.size_bytes)}, "
            f"{usage.macs / 1e6:.4g} million MACs; keeps {kept:.1%} of the channels' importance"
        )
        if limits.given:
            show.line("within the budget" if within else "more than the budget")
    if not within:
        raise typer.Exit(NOT_WITHIN)


def _load(basis: Basis, wishes: Wishes, report: Progress) -> _Loaded:
    """The network with its groups and scores, and what its kernels cost."""
    graph, data = load_graph(basis.model, basis.data, report)
    from edgeprune.blocks import blocks
    from edgeprune.channels import channel_groups
    from edgeprune.planning import Blocks, Known
    from edgeprune.plans import check_blocks
    from edgeprune.scoring import score, score_blocks

    report("channels", 0, 0, graph.name)
    groups = channel_groups(graph)
    found = blocks(graph)
    check_blocks(wishes.drop, [block.name for block in found])
    by = basis.criterion or ("l2" if data is None else "taylor")
    report("scores", 0, 0, by)
    scores = score(graph, groups, by, data)
    droppable: dict[str, float] = {}
    if wishes.drop_blocks:
        # in the units of the channels' scores
        droppable = score_blocks(graph, found, data, by)
    cost = None
    if basis.target is not None:
        from edgeprune.measuring.kernels import profile

        cost = profile(graph, basis.target, groups, progress=report)
    known = Known(
        graph,
        groups,
        scores,
        wishes.strategy or ("local" if wishes.share is not None else "budget"),
        blocks=Blocks(found, droppable, wishes.drop),
        rules=wishes.rules,
        time_limit=wishes.time_limit,
    )
    return _Loaded(known, cost)


def _made(loaded: _Loaded, wishes: Wishes, report: Progress) -> tuple[Plan, float]:
    from time import monotonic

    from edgeprune.planning import plan_within, share_of

    known, cost = loaded.known, loaded.cost
    start = monotonic()
    if wishes.share is not None:
        return share_of(known, wishes.share), 0.0
    assert cost is not None
    report("plan", 0, 0, f"at most {show_seconds(wishes.time_limit)} for the search")
    made = plan_within(known, cost, wishes.limits(cost.latency_ms(known.sizes)))
    return made, monotonic() - start


def _tell(made: Plan, seconds: float) -> None:
    if made.dropped:
        show.line(f"drops {', '.join(made.dropped)}")
    if made.predicted_ms is not None:
        size = f", .pte of {show_bytes(made.predicted_bytes)}" if made.predicted_bytes else ""
        show.line(f"predicted: {show_ms(made.predicted_ms)}{size}")
    if made.importance is not None:
        show.line(
            f"importance: {made.importance:.2%} kept; {_gap(made.gap)}, {show_seconds(seconds)}"
        )
    for note in made.notes:
        show.line(f"note: {note}")


def _gap(gap: float | None) -> str:
    if gap is None:
        return "not compared with the best"
    return "the best there is" if gap == 0 else f"the best keeps at most {gap:.3%} more"


def _point(point: Point) -> dict[str, Any]:
    plan = point.plan
    if plan is None:
        return {"speedup": point.speedup, "plan": None, "why": point.why}
    return {
        "speedup": point.speedup,
        "predicted_ms": plan.predicted_ms,
        "predicted_bytes": plan.predicted_bytes,
        "importance": plan.importance,
        "gap": plan.gap,
        "seconds": round(point.seconds, 2),
        "dropped": list(plan.dropped),
        "widths": {name: len(kept) for name, kept in plan.kept.items()},
        "notes": list(plan.notes),
    }


def _drawn(name: str, points: list[Point]) -> str:
    from edgeprune.report.front import Dot, front_svg

    dots = [
        Dot(p.plan.predicted_ms or 0.0, p.plan.importance or 0.0, f"{p.speedup:g}×")
        for p in points
        if p.plan is not None
    ]
    return front_svg(dots, f"{name}: the best plans")


def _show_table(points: tuple[Point, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("speed-up", "predicted", ".pte", "importance", "gap", "dropped", "seconds"):
        table.add_column(title, justify="right")
    for point in points:
        plan = point.plan
        if plan is None:
            table.add_row(f"{point.speedup:g}×", "out of reach", *[""] * 4, f"{point.seconds:.1f}")
            continue
        table.add_row(
            f"{point.speedup:g}×",
            show_ms(plan.predicted_ms or 0.0),
            show_bytes(plan.predicted_bytes or 0),
            "" if plan.importance is None else f"{plan.importance:.2%}",
            "" if plan.gap is None else f"{plan.gap:.3%}",
            str(len(plan.dropped)),
            f"{point.seconds:.1f}",
        )
    show.rich(table)
