"""The rows of recovery as Markdown: a line per case and step, mean and spread over seeds."""

from __future__ import annotations

import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cases import told_of


def kept(out: Path) -> list[dict[str, Any]]:
    """The rows that are finished."""
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(out: Path) -> None:
    """Print the table of the rows that looked at the test set, then that of the others."""
    print(
        f"CIFAR-10 (JPEG), {platform.processor() or platform.machine()}, {platform.system()}; "
        f"edgeprune {version('edgeprune')}, torch {torch.__version__}, one thread.\n"
    )
    rows = kept(out)
    tested = [row for row in rows if "top1" in row["found"]]
    table(out, tested, "top1", "top-1, test")
    others = [row for row in rows if row not in tested]
    if others:
        print("\nNot tested: chosen between on the validation split.\n")
        table(out, others, "validation", "top-1, validation")


def table(out: Path, rows: list[dict[str, Any]], metric: str, title: str) -> None:
    """Print one table."""
    print(
        f"| case | measured speed-up | step | {title} | below baseline | seeds "
        "| validation | CPU s |\n|---|---|---|---|---|---|---|---|"
    )
    groups: dict[tuple[str, str, str, int], list[dict[str, Any]]] = {}
    for line in rows:
        row = line["row"]
        key = (row["case"], row["step"], row["recipe"], row["samples"])
        groups.setdefault(key, []).append(line["found"])
    for (case, step, recipe, samples), found in sorted(groups.items(), key=_order):
        values = [f[metric] for f in found]
        mean = statistics.mean(values)
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        base = groups.get((case.split("-")[0], "baseline", "", 0))
        below = "" if base is None or step == "baseline" else f"{base[0][metric] - mean:.2f}"
        what = f"{step} ({samples} samples)" if samples and not recipe else step
        what += f", {recipe}" if recipe else ""
        judged = statistics.mean(f["validation"] for f in found)
        cpu = statistics.mean(f["cpu_s"] for f in found)
        print(
            f"| {case} | {_measured(out / 'plans' / case)} | {what} | {mean:.2f}{spread} | {below} "
            f"| {len(values)} | {judged:.2f} | {cpu:.0f} |"
        )


_STEPS = ("baseline", "cut", "statistics", "reconstruction")


def _order(item: tuple[tuple[str, str, str, int], Any]) -> tuple[Any, ...]:
    (case, step, recipe, _), _ = item
    network, _, rest = case.partition("-")
    place = _STEPS.index(step) if step in _STEPS else len(_STEPS) + int(step.split()[0])
    return network, rest, place, recipe


def _measured(folder: Path) -> str:
    told = told_of(folder)
    return f"{told['speedup']:.2f} ({told['low']:.2f}–{told['high']:.2f})" if told else ""
