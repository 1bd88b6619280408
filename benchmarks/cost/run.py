"""Prediction against measurement on pruned networks: the tables of benchmarks/cost/results.md.

    python benchmarks/cost/run.py OUT STAGE [--models a,b] [--plans 24] [--threads 1] [--dtype int8]

Stages, in order, each of which goes on where it stopped (OUT keeps everything):

    lower    lowers each network whole and at widths that tell its groups apart
    build    writes its programs at random widths, by rewriting sizes (edgeprune/cost/resizing.py)
    check    lowers one plan truly and compares it with the rewritten program, number by number
    measure  times the programs of a network against each other, in one session
    predict  profiles the kernels, first cold and then warm, and predicts every plan
    repeat   times the full programs once more (ten calls over ten minutes show the drift)
    tables   prints Markdown

Only `measure`, `predict` and `repeat` need a quiet machine. In int8 every program is truly lowered,
and there is nothing to build.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from programs import MODELS, Subject, pruned, random_widths, subject

from edgeprune.cost.resizing import learn, program_bytes
from edgeprune.lowering import lower, quantise
from edgeprune.measuring import Effort, compare, speedup
from edgeprune.measuring.kernels import profile
from edgeprune.planning.drawn import telling_widths
from edgeprune.rewrites import as_run
from edgeprune.targets import load_target

Row = dict[str, Any]
FULL, TELLING, FIRST_PLAN = 0, 1, 2
TELLING_MORE = 1001
"""Needed where a network has more groups of one size than that has widths."""
TRUE = (FULL, TELLING, TELLING_MORE)
EFFORT = Effort(processes=2, rounds=10, min_block_ms=10)
CHECKED = FIRST_PLAN


class Run:
    """What was asked, and the files it is kept in."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.out: Path = asked.out
        self.models: list[str] = asked.models.split(",")
        self.plans = range(FIRST_PLAN, FIRST_PLAN + asked.plans)
        self.threads: int = asked.threads
        self.dtype: str = asked.dtype
        self.target = replace(load_target("host", threads=self.threads), dtype=self.dtype)

    def folder(self, model: str) -> Path:
        path = self.out / (model if self.dtype == "fp32" else f"{model}-{self.dtype}")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def rows(self, kind: str) -> list[Row]:
        path = self.out / f"{kind}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def add(self, kind: str, row: Row) -> None:
        with (self.out / f"{kind}.jsonl").open("a") as file:
            file.write(json.dumps({"dtype": self.dtype, **row}) + "\n")


def widths_of(what: Subject, number: int) -> dict[str, int]:
    """The widths of program `number` of a network."""
    if number == FULL:
        return what.groups.full_widths()
    if number in (TELLING, TELLING_MORE):
        return telling_widths(what.groups)[TRUE.index(number) - 1]
    return random_widths(what.groups, number)


def lower_stage(run: Run) -> None:
    """Two true programs of each network, three where two do not tell its groups apart."""
    for model in run.models:
        what = subject(model)
        if run.dtype == "fp32":
            numbers = TRUE[: 1 + len(telling_widths(what.groups))]
            wanted = {number: str(number) for number in numbers}
        else:
            wanted = {FULL: str(FULL)} | {number: f"plan{number}" for number in run.plans}
        for number, name in wanted.items():
            if not (run.folder(model) / f"{name}.json").exists():
                _lowered(run, what, number, name)


def _lowered(run: Run, what: Subject, number: int, name: str) -> None:
    widths, path = widths_of(what, number), run.folder(what.name) / f"{name}.pte"
    graph = pruned(what, widths)
    if run.dtype == "int8":
        graph = quantise(graph, run.target, [torch.randn(x.shape) for x in graph.example_inputs])
    artifact = lower(graph, run.target, path)
    known = {"widths": widths, "size": artifact.size_bytes, "planned": artifact.planned_bytes}
    path.with_suffix(".json").write_text(json.dumps(known))
    print(f"{what.name} {name}: lowered in {artifact.seconds:.0f} s", flush=True)


def build_stage(run: Run) -> None:
    """Every plan's program, from the true ones."""
    for model in run.models:
        folder = run.folder(model)
        if all((folder / f"plan{n}.pte").exists() for n in run.plans):
            continue
        what = subject(model)
        extents = as_run(what.graph, what.groups, load_target("host"))[1].extents
        template = learn(
            [
                (json.loads((folder / f"{n}.json").read_text())["widths"], pte.read_bytes())
                for n in TRUE
                if (pte := folder / f"{n}.pte").exists()
            ],
            [extent for dims in extents.values() for extent in dims],
        )
        started = time.perf_counter()
        for number in run.plans:
            widths = widths_of(what, number)
            (folder / f"plan{number}.pte").write_bytes(program_bytes(template.resized(widths)))
            (folder / f"plan{number}.json").write_text(json.dumps({"widths": widths}))
        each = (time.perf_counter() - started) / len(run.plans)
        print(f"{model}: {len(run.plans)} programs, {each:.2f} s each", flush=True)


def measure_stage(run: Run) -> None:
    """All plans of a network in turns."""
    rows = run.rows("measured")
    done = {(row["model"], row["threads"], row.get("dtype", "fp32")) for row in rows}
    for model in run.models:
        if (model, run.threads, run.dtype) in done:
            continue
        paths = [run.folder(model) / f"plan{n}.pte" for n in run.plans]
        started = time.perf_counter()
        found = compare([run.folder(model) / f"{FULL}.pte", *paths], run.target, EFFORT)
        for number, one in zip((FULL, *run.plans), found, strict=True):
            row = {
                "model": model,
                "plan": number,
                "threads": run.threads,
                "ms": one.median_ms,
                "interval": one.interval_ms,
                "clock": one.clock,
                "samples": len(one.samples_ms),
                "warnings": one.warnings,
                "load": one.conditions.load,
                "cpu": one.conditions.cpu,
                "runtime": one.conditions.runtime,
                "date": one.conditions.date,
            }
            run.add("measured", row)
        print(f"{model}: measured in {time.perf_counter() - started:.0f} s", flush=True)


def predict_stage(run: Run) -> None:
    """A cold profile in a table of its own, a warm one, and what they predict."""
    for model in run.models:
        what = subject(model)
        table = run.folder(model) / f"costs-{run.threads}.sqlite"
        cold = not table.exists()
        first = profile(what.graph, run.target, what.groups, table=table)
        again = profile(what.graph, run.target, what.groups, table=table)
        row: Row = {
            "model": model,
            "threads": run.threads,
            "cold_s": first.taken.seconds if cold else None,
            "warm_s": again.taken.seconds,
            "kernels": first.taken.kernels,
            "samples": first.taken.samples,
            "held_out": first.taken.held_out,
            "refined": first.taken.refined,
            "tiles": [again.tiles.pointwise, again.tiles.depthwise],
        }
        run.add("profiles", row)
        for number in (FULL, *run.plans):
            widths = widths_of(what, number)
            run.add(
                "predicted",
                {
                    "model": model,
                    "plan": number,
                    "threads": run.threads,
                    "ms": again.latency_ms(widths),
                    "bytes": again.size_bytes(widths),
                },
            )
        for path in sorted(run.folder(model).glob("*.json")):
            true = json.loads(path.read_text())
            if "size" in true:  # truly lowered
                guess = again.size_bytes(true["widths"])
                number = int(path.stem.removeprefix("plan"))
                sizes = {"model": model, "plan": number, "bytes": true["size"]}
                run.add("sizes", {**sizes, "predicted": guess})
        print(f"{model}: {row}", flush=True)


def check_stage(run: Run) -> None:
    """One plan truly lowered beside the rewritten program: which numbers differ."""
    from edgeprune.cost.pte_parts import take_apart
    from edgeprune.cost.resizing import differences

    for model in run.models:
        folder = run.folder(model)
        if not (folder / f"{CHECKED}.json").exists():
            _lowered(run, subject(model), CHECKED, str(CHECKED))
        true, made = (
            take_apart((folder / f"{name}{CHECKED}.pte").read_bytes()) for name in ("", "plan")
        )
        paths = [folder / f"{name}{CHECKED}.pte" for name in ("", "plan")]
        ratio, interval = speedup(*compare(paths, load_target("host"), EFFORT))
        row = {"model": model, "differences": len(differences(true, made))}
        run.add("checked", {**row, "ratio": ratio, "interval": interval})
        print(f"{model}: {row}, times {ratio:.4f}", flush=True)


def repeat_stage(run: Run) -> None:
    """One more measurement of each full program: to be called ten times over ten minutes."""
    for model in run.models:
        (one,) = compare([run.folder(model) / f"{FULL}.pte"], run.target)
        row = {"model": model, "ms": one.median_ms, "clock": one.clock, "at": time.time()}
        run.add("repeated", {**row, "warnings": one.warnings})
        print(f"{model}: {one.median_ms:.3f} ms", flush=True)


def tables_stage(run: Run) -> None:
    """Markdown on stdout."""
    import tables

    for line in tables.lines(run.rows):
        print(line)


STAGES: dict[str, Callable[[Run], None]] = {
    "lower": lower_stage,
    "build": build_stage,
    "check": check_stage,
    "measure": measure_stage,
    "predict": predict_stage,
    "repeat": repeat_stage,
    "tables": tables_stage,
}


def main(words: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument(
        "--plans", type=int, default=24, help="4 correct a model, the others judge it"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("fp32", "int8"), default="fp32")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    STAGES[asked.stage](Run(asked))


if __name__ == "__main__":
    main()
