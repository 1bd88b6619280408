"""Tables 3 and 4: the closed loop on one (network, budget) after the other, measured."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import Bench, Row
from cases import MEASURED, SIZED

from edgeprune.blocks import blocks
from edgeprune.candidates import Baseline, Candidate, Programs
from edgeprune.closed_loop import Wanted, close_the_loop, judge
from edgeprune.cost import host_conditions
from edgeprune.errors import BudgetError
from edgeprune.measuring import Effort, compare_until, speedup
from edgeprune.planning import Blocks, Known
from edgeprune.plans import Plan
from edgeprune.records import Budget, Graph, Target
from edgeprune.scoring import score


def latency(bench: Bench) -> None:
    """Table 3: speed-ups, measured."""
    measured(bench, "latency", MEASURED, lambda ratio, base: Budget(speedup=ratio))


def size(bench: Bench) -> None:
    """Table 4: size budgets, in bytes of the .pte."""
    measured(bench, "size", SIZED, lambda ratio, base: Budget(size_bytes=int(base / ratio)))


def measured(
    bench: Bench,
    stage: str,
    pairs: tuple[tuple[str, float], ...],
    budget_of: Callable[[float, int], Budget],
) -> None:
    """The closed loop for each (network, ratio), as `fit --epochs 0` runs it, and then its program
    once more beside the baseline, in a session of its own: that one is what the table shows.

    Programs of earlier pairs of the same network are what later ones are resized from.
    """
    done = 0
    programs: Kept | None = None
    for name, ratio in pairs:
        key = {"stage": stage, "model": name, "ratio": ratio}
        if not bench.wants(name) or not bench.rows.missing(**key):
            continue
        if done == bench.most:
            return
        done += 1
        graph, groups, cost = bench.network(name)
        if programs is None or programs.graph is not graph:
            programs = Kept(graph, bench.target, bench.baseline(name, graph))
        start, lowered = time.monotonic(), len(programs.lowering_s)
        base = programs.baseline
        budget = budget_of(ratio, base.size_bytes)
        known = Known(graph, groups, score(graph, groups, "l2"), blocks=Blocks(blocks(graph)))
        row: Row = {**key, "base_ms": base.latency_ms, "base_bytes": base.size_bytes}
        wanted = Wanted(budget, calibrate=bench.calibrate)
        try:
            found = close_the_loop(known, cost, programs, wanted, _told)
        except BudgetError as error:
            bench.rows.add({**row, "error": str(error)})
            continue
        seconds = time.monotonic() - start
        bench.rows.add(
            {
                **row,
                **finally_measured(programs.kept[_widths(found.plan)], base, bench.target, budget),
                "rounds": [
                    [t.predicted_ms, t.measured_ms, t.size_bytes, t.made, t.verdict]
                    for t in found.rounds
                ],
                "importance": found.plan.importance,
                "gap": found.plan.gap,
                "seconds": round(seconds, 1),
                "lowering": [round(s, 1) for s in programs.lowering_s[lowered:]],
                "load": host_conditions("xnnpack", "fp32", 1).load,
                "notes": list(found.plan.notes),
            }
        )


def _told(stage: str, done: int, of: int, note: str) -> None:
    print(time.strftime("%H:%M:%S"), stage, f"{done}/{of}", note, file=sys.stderr, flush=True)


class Kept(Programs):
    """Programs that keeps the truly lowered ones, by their widths."""

    def __init__(self, graph: Graph, target: Target, baseline: Baseline) -> None:
        super().__init__(graph, target, baseline)
        self.folder = tempfile.TemporaryDirectory()
        self.kept: dict[str, Candidate] = {}

    def lowered(self, plan: Plan, path: Path) -> Candidate:
        made = super().lowered(plan, path)
        kept = Path(self.folder.name) / f"{len(self.kept)}.pte"
        shutil.copy(path, kept)
        self.kept[_widths(plan)] = replace(made, path=kept)
        return made


def _widths(plan: Plan) -> str:
    return json.dumps(plan.widths(), sort_keys=True)


def finally_measured(made: Candidate, base: Baseline, target: Target, budget: Budget) -> Row:
    """What a program takes beside the baseline; more samples while that cannot be decided."""
    before, after = compare_until(
        [base.path, made.path],
        target,
        Effort(processes=2, max_processes=8, memory=False),
        lambda both: judge(both[0], both[1], made.size_bytes, budget)[0] != "undecidable",
    )
    found, _ = judge(before, after, made.size_bytes, budget)
    ratio, interval = speedup(before, after)
    if budget.speedup is not None:
        used, around = budget.speedup / ratio, [budget.speedup / x for x in reversed(interval)]
    else:
        used, around = made.size_bytes / (budget.size_bytes or 1), None
    return {
        "used": used,
        "interval": around,
        "verdict": found,
        "samples": len(after.samples_ms),
        "bytes": made.size_bytes,
        "clock": after.clock,
    }
