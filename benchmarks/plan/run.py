"""What issue 5 claims of the planner, printed as tables: python benchmarks/plan/run.py STAGE...

    costs      measure the kernels that the others need
    front      gap, seconds and importance kept beside greedy, one-sided and uniform (table 2)
    solvers    the same programmes by HiGHS alone, by CP-SAT where it is installed, and as shipped
    large      resnet152, efficientnet_b7, swin_b, densenet201, by costs that need no measuring
    latency    budgets as measured, epochs 0 (table 3)
    size       .pte budgets, epochs 0 (table 4)
    blocks     ResNet-56 at 3x, with and without dropping blocks (table 5)

Every finished row is kept in OUT (one JSON object a line), and not made again: stop and go on at
will. `tables` prints what OUT holds, as Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from bench import Bench, Rows, drawn
from budgets import latency, size
from by_macs import ByMacs
from cases import MEASURED, SIZED, build
from safetensors.torch import load_file

from edgeprune import capture, channel_groups
from edgeprune.blocks import blocks
from edgeprune.closed_loop import AIM
from edgeprune.cost import host_conditions
from edgeprune.planning import Blocks, Limits
from edgeprune.planning.levels import Choices
from edgeprune.planning.planner import Planner
from edgeprune.planning.tabulate import tabulated
from edgeprune.scoring import score, score_blocks

FRONT = ("resnet50", "mobilenet_v2", "densenet121", "vit_b_16", "swin_t")
LARGE = ("resnet152", "efficientnet_b7", "swin_b", "densenet201")
SPEEDUPS = (1.5, 2.0, 3.0)


def front(bench: Bench) -> None:
    """Table 2: three speed-ups of five networks, by four rules, at the same predicted latency."""
    from baselines import netadapt, one_sided, uniform

    for name in FRONT:
        for scored, speedup in ((s, x) for s in ("l2", "drawn") for x in SPEEDUPS):
            key = {"stage": "front", "model": name, "scores": scored, "speedup": speedup}
            if not bench.wants(name) or not bench.rows.missing(**key):
                continue
            graph, groups, cost = bench.network(name)
            scores = drawn(groups) if scored == "drawn" else score(graph, groups, "l2")
            limit = cost.latency_ms(groups.full_widths()) / speedup
            start, cpu = time.monotonic(), time.process_time()
            chosen = Planner(groups, scores, cost).within(Limits(limit))
            seconds, cpu = time.monotonic() - start, time.process_time() - cpu
            problem = tabulated(Choices(groups, cost, Limits()), scores, Blocks()).problem
            full = problem.taken(problem.complete([0] * len(problem.variables)))
            others = {
                "netadapt": netadapt(problem, limit),
                "one-sided": one_sided(problem, limit, cost),
                "uniform": uniform(problem, limit),
            }
            kept = {
                rule: None if levels is None else float(problem.taken(levels)[0] / full[0])
                for rule, levels in others.items()
            }
            bench.rows.add(
                {
                    **key,
                    "ours": chosen.proof.importance,
                    **kept,
                    "gap": chosen.proof.gap,
                    "seconds": round(seconds, 2),
                    "cpu": round(cpu, 2),
                    "solving": round(chosen.proof.seconds, 2),
                    "used": chosen.usage.latency_ms / limit,
                    "how": chosen.proof.how,
                    "notes": list(chosen.proof.notes),
                    "costs": "by formula" if bench.formula else "measured",
                    "load": host_conditions("xnnpack", "fp32", 1).load,
                }
            )


def large(bench: Bench) -> None:
    """Networks of hundreds of kernels, costs by multiply-accumulates: only the solver is tried."""
    for name in LARGE:
        todo = [x for x in SPEEDUPS if bench.rows.missing(stage="large", model=name, speedup=x)]
        if not bench.wants(name) or not todo:
            continue
        module, shape = build(name)
        graph = capture(module, (torch.zeros(shape),), name=name)
        groups = channel_groups(graph)
        cost = ByMacs.of(graph, groups)
        planner = Planner(groups, drawn(groups), cost)
        for speedup in todo:
            limit = cost.latency_ms(groups.full_widths()) / speedup
            start, cpu = time.monotonic(), time.process_time()
            chosen = planner.within(Limits(limit))
            bench.rows.add(
                {
                    "stage": "large",
                    "model": name,
                    "speedup": speedup,
                    "groups": len(groups.groups),
                    "kernels": len(cost.kernels),
                    "ours": chosen.proof.importance,
                    "gap": chosen.proof.gap,
                    "seconds": round(time.monotonic() - start, 2),
                    "cpu": round(time.process_time() - cpu, 2),
                    "solving": round(chosen.proof.seconds, 2),
                    "how": chosen.proof.how,
                    "notes": list(chosen.proof.notes),
                }
            )


def solvers(bench: Bench) -> None:
    """The whole problem as one programme, by each solver, against prices first."""
    from plain import plain_answers

    for name in FRONT:
        for speedup in SPEEDUPS:
            key = {"stage": "solvers", "model": name, "speedup": speedup}
            if not bench.wants(name) or not bench.rows.missing(**key):
                continue
            _, groups, cost = bench.network(name)
            limit = cost.latency_ms(groups.full_widths()) / speedup
            problem = tabulated(Choices(groups, cost, Limits()), drawn(groups), Blocks()).problem
            bench.rows.add({**key, **plain_answers(problem, limit)})


def blocks_or_not(bench: Bench) -> None:
    """Table 5: ResNet-56 at 3x; what is lost is channels of what stays and blocks that go."""
    if not bench.rows.missing(stage="blocks"):
        return
    graph, groups, cost = bench.network("resnet56")
    if bench.checkpoint is not None:
        graph.program.load_state_dict(load_file(bench.checkpoint))
    found = blocks(graph)
    scores, importance = score(graph, groups, "l2"), score_blocks(graph, found)
    limits = Limits(cost.latency_ms(groups.full_widths()) / 3 * AIM)
    total = sum(importance.values())
    channels = sum(float(v.sum()) for v in scores.values.values())
    whole = Planner(groups, scores, cost, Blocks(found)).within(limits)
    dropping = Planner(groups, scores, cost, Blocks(found, importance)).within(limits)
    bench.rows.add(
        {
            "stage": "blocks",
            "with": dropping.proof.importance,
            "without": (whole.proof.importance * channels + total) / (channels + total),
            "dropped": [b.name for b in found if dropping.widths.get(b.key) == 0],
            "blocks": len(found),
            "gap": [dropping.proof.gap, whole.proof.gap],
            "weights": None if bench.checkpoint is None else bench.checkpoint.name,
        }
    )


def costs(bench: Bench) -> None:
    """Measures the kernels that the other stages need, and nothing else."""
    names = dict.fromkeys([*(name for name, _ in (*MEASURED, *SIZED)), *FRONT])
    for name in names:
        if bench.wants(name) and bench.rows.missing(stage="costs", model=name):
            start = time.monotonic()
            _, groups, cost = bench.network(name)
            full = cost.latency_ms(groups.full_widths())
            seconds = round(time.monotonic() - start, 1)
            bench.rows.add({"stage": "costs", "model": name, "full_ms": full, "seconds": seconds})


STAGES: dict[str, Callable[[Bench], None]] = {
    "costs": costs,
    "front": front,
    "large": large,
    "solvers": solvers,
    "latency": latency,
    "size": size,
    "blocks": blocks_or_not,
}


def tables(rows: Rows) -> Iterator[str]:
    """All that was measured, as Markdown."""
    from shown import shown

    conditions = host_conditions("xnnpack", "fp32", 1)
    yield "# What the planner and the closed loop did\n"
    yield "Printed by `python benchmarks/plan/run.py tables --out ROWS`. Stages and pairs without"
    yield "rows were not run. `load` is the machine's load average: latencies are CPU time"
    yield "of the one thread where other work had the processors.\n"
    yield f"{conditions.cpu}, {os.cpu_count()} processors, {conditions.runtime},"
    yield f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    for stage in STAGES:
        if stage != "costs" and rows.of(stage):
            yield from shown(stage, rows.of(stage))


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stages", nargs="*", choices=[*STAGES, "tables"])
    parser.add_argument("--out", type=Path, default=Path("plan-benchmark.jsonl"))
    parser.add_argument("--costs", type=Path, default=None, help="cost table (the user's own)")
    parser.add_argument("--only", nargs="*", default=[], help="these networks only")
    parser.add_argument("--checkpoint", type=Path, help="weights of ResNet-56 (.safetensors)")
    parser.add_argument("--formula", action="store_true", help="costs by formula, not measured")
    parser.add_argument("--calibrate", type=int, help="programs around each first plan")
    parser.add_argument("--most", type=int, default=-1, help="at most so many measured pairs")
    bench = Bench(arguments := parser.parse_args())
    for stage in arguments.stages:
        if stage == "tables":
            print("\n".join(tables(bench.rows)))
        else:
            STAGES[stage](bench)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
