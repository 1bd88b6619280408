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
    print("\nAgainst the peer: of each, the case that is best on the validation split.\n")
    margins(tested)
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


def margins(rows: list[dict[str, Any]]) -> None:
    """Print a line for each network, speed-up and step that both edgeprune and the peer took.

    Of either the case with the best validation metric counts. The peer's cut cannot be
    reconstructed, so that its best without labels stands beside ours with reconstruction.
    """
    print("| network | speed-up | step | edgeprune | top-1 | peer | top-1 | margin |")
    print("|---|---|---|---|---|---|---|---|")
    found: dict[tuple[str, str, str], dict[tuple[bool, str], list[dict[str, Any]]]] = {}
    for line in rows:
        row = line["row"]
        if row["step"] == "baseline":
            continue
        network, speedup, criterion = row["case"].split("-", 2)
        trained = "epochs" in row["step"]
        step = f"{row['step']}, {row['recipe']}" if trained else "without labels"
        case = criterion if trained else f"{criterion} {row['step']}"
        cases = found.setdefault((network, speedup, step), {})
        cases.setdefault((criterion.startswith("tp-"), case), []).append(line["found"])
    for (network, speedup, step), cases in sorted(found.items()):
        both = [
            {case: rows for (theirs, case), rows in cases.items() if theirs == peer}
            for peer in (False, True)
        ]
        if not all(both):
            continue
        (ours, top), (peers, other) = map(_best, both)
        print(
            f"| {network} | {speedup} | {step} | {ours} | {top:.2f} | {peers} | {other:.2f} "
            f"| {top - other:+.2f} |"
        )


def _best(cases: dict[str, list[dict[str, Any]]]) -> tuple[str, float]:
    """The case that is best on the validation split, and its metric on the test set: means over
    its seeds."""
    mean = {
        name: [statistics.mean(f[metric] for f in found) for metric in ("validation", "top1")]
        for name, found in cases.items()
    }
    name = max(mean, key=lambda name: mean[name][0])
    seeds = len(cases[name])
    return f"{name}{f' ({seeds} seeds)' if seeds > 1 else ''}", mean[name][1]


_STEPS = ("baseline", "cut", "statistics", "reconstruction")


def _order(item: tuple[tuple[str, str, str, int], Any]) -> tuple[Any, ...]:
    (case, step, recipe, _), _ = item
    network, _, rest = case.partition("-")
    place = _STEPS.index(step) if step in _STEPS else len(_STEPS) + int(step.split()[0])
    return network, rest, place, recipe


def _measured(folder: Path) -> str:
    told = told_of(folder)
    return f"{told['speedup']:.2f} ({told['low']:.2f}–{told['high']:.2f})" if told else ""
