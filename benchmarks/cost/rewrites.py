"""What the exact rewrites are worth: operators outside the delegate and latency, without and with.

    python benchmarks/cost/rewrites.py OUT lower|measure|table [--models a,b|all]

`lower` makes both programs of each network, `measure` times them in turns, so that whatever
disturbs the machine hits both, and removes them (those of all networks are 35 GB), `table` prints
Markdown. All go on where they stopped. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from programs import subject

from edgeprune.lowering import lower
from edgeprune.measuring import Effort, compare, speedup
from edgeprune.targets import load_target

MODELS = (
    "inception_v3",
    "vit_b_16",
    "swin_t",
    "convnext_tiny",
    "densenet121",
    "shufflenet_v2_x1_0",
    "mobilenet_v3_small",
    "maxvit_t",
    "swin_v2_t",
    "efficientnet_b0",
)
SIDES = {"before": False, "after": True}
EFFORT = Effort(processes=2, rounds=6, min_block_ms=10)
Row = dict[str, Any]


def lower_both(out: Path, model: str) -> None:
    """OUT/MODEL-before.pte and OUT/MODEL-after.pte, each with what is known of it beside it; one
    program is both where there is nothing to rewrite."""
    missing = [side for side in reversed(SIDES) if not (out / f"{model}-{side}.json").exists()]
    if not missing:
        return
    graph = subject(model).graph
    for side in missing:
        path, told = (out / f"{model}-{side}{suffix}" for suffix in (".pte", ".json"))
        twin = out / f"{model}-after.json"
        if side == "before" and not json.loads(twin.read_text())["rewrites"]:
            path.hardlink_to(twin.with_suffix(".pte"))
            told.write_text(twin.read_text())
            continue
        target = replace(load_target("host"), rewrite=SIDES[side])
        made = lower(graph, target, path)
        row = {"outside": dict(made.other_ops), "rewrites": dict(made.rewrites)}
        told.write_text(json.dumps(row))
        print(f"{model} {side}: {row}, {made.seconds:.0f} s", flush=True)


def measure_both(out: Path, model: str) -> None:
    """A row in OUT/rewrites.jsonl; nothing is run where both programs are the same bytes."""
    if any(row["model"] == model for row in rows_of(out)):
        return
    paths = [out / f"{model}-{side}.pte" for side in SIDES]
    known = {side: json.loads((out / f"{model}-{side}.json").read_text()) for side in SIDES}
    row: Row = {"model": model, **{side: known[side] for side in SIDES}}
    if paths[0].read_bytes() != paths[1].read_bytes():
        before, after = compare(paths, load_target("host"), EFFORT)
        ratio, interval = speedup(before, after)
        row |= {
            "ms": [before.median_ms, after.median_ms],
            "ratio": ratio,
            "interval": interval,
            "samples": len(after.samples_ms),
            "clock": after.clock,
            "load": after.conditions.load,
            "cpu": after.conditions.cpu,
            "runtime": after.conditions.runtime,
            "date": after.conditions.date,
        }
    with (out / "rewrites.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    for path in paths:
        path.unlink()
    print(row, flush=True)


def rows_of(out: Path) -> list[Row]:
    """What was measured before."""
    path = out / "rewrites.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown."""
    timed = [row for row in rows if "ratio" in row]
    if timed:
        first, loads = timed[0], [row["load"] for row in timed]
        on_cpu = ", ".join(row["model"] for row in timed if row["clock"] == "cpu")
        days = sorted({row["date"][:10] for row in timed})
        yield (
            f"{first['cpu']}, {first['runtime']}, one thread, wall time"
            f"{f' (CPU time: {on_cpu})' if on_cpu else ''}, "
            f"{' and '.join(days)}; load average {min(loads):.1f} to {max(loads):.1f} (a shared "
            f"machine); {first['samples']} samples of each, in turns."
        )
        yield ""
    yield "| model | outside before | after | ms before | after | times faster (95 %) | rewritten |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        outside = [sum(row[side]["outside"].values()) for side in SIDES]
        left = ", ".join(f"{n} {op}" for op, n in row["after"]["outside"].items())
        named = (
            ", ".join(f"{n} {name}" for name, n in row["after"]["rewrites"].items()) or "nothing"
        )
        ms, times = ("", ""), "the same program"
        if "ratio" in row:
            low, high = row["interval"]
            ms = tuple(f"{value:.1f}" for value in row["ms"])
            times = f"{row['ratio']:.2f} ({low:.2f}–{high:.2f})"
        yield (
            f"| {row['model']} | {outside[0]} | {outside[1]}{f': {left}' if left else ''} "
            f"| {ms[0]} | {ms[1]} | {times} | {named} |"
        )


def main(words: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("stage", choices=("lower", "measure", "table"))
    parser.add_argument("--models", default=",".join(MODELS))
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.stage == "table":
        print("\n".join(table(rows_of(asked.out))))
        return
    models = torchvision.models.list_models(torchvision.models) if asked.models == "all" else ()
    for model in models or asked.models.split(","):
        (lower_both if asked.stage == "lower" else measure_both)(asked.out, model)


if __name__ == "__main__":
    main()
