"""Seconds to export, analyse and cut at full size, beside Torch-Pruning on the same machine.

    python benchmarks/coverage/speed.py OUT [NAME ...] [--rounds N]

NAME is a torchvision classification model; resnet50, vit_b_16 and swin_t by default, at 3x224x224.
Each round runs every model once through edgeprune and once through Torch-Pruning (where it is
installed), one after the other, each in a process of its own with one thread; the table gives the
median of the rounds and their range, in CPU seconds. OUT/speed.jsonl keeps every round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests"), str(HERE.parents[1])]

from isolated import Isolated, Limits  # noqa: E402
from speed_checks import check_ours, check_theirs  # noqa: E402
from tables import machine  # noqa: E402
from zoo_peer import is_installed  # noqa: E402

LIMITS = Limits(cpu_s=300, wall_s=3600)


def main() -> None:
    """Measure the rounds that are asked for, and print the table of all in OUT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=["resnet50", "vit_b_16", "swin_t"])
    parser.add_argument("--rounds", type=int, default=1, help="how often (default: once)")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "speed.jsonl"
    isolated = Isolated(["speed_checks"])
    checks = [check_ours, *([check_theirs] if is_installed() else [])]
    for _ in range(asked.rounds):
        for name in asked.names:
            for check in checks:
                found = {"model": name, "check": check.__name__}
                found |= isolated.run(check, name, LIMITS)
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(found) + "\n")
    print(_markdown([json.loads(line) for line in file.read_text("utf-8").splitlines()]))


def _markdown(rows: list[dict[str, Any]]) -> str:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    said: dict[tuple[str, str], str] = {}
    for row in rows:
        for key in ("export", "analysis", "surgery", "build", "step"):
            if f"{key}_cpu_s" in row:
                values[row["model"], key].append(row[f"{key}_cpu_s"])
        if row["check"] == "check_theirs" and "failed" in row:
            said[row["model"], "peer"] = row["failed"]
    lines = [
        "# Speed at 224 px\n",
        "Printed by `benchmarks/coverage/speed.py`.\n",
        f"{machine()} CPU seconds, median (range) over the rounds.\n",
        "| model | export | analysis | surgery | Torch-Pruning: graph | cut |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        cells = [_cell(values[name, key]) for key in ("export", "analysis", "surgery")]
        theirs = [_cell(values[name, key]) for key in ("build", "step")]
        if (name, "peer") in said:
            theirs[-1] += f" {said[name, 'peer']}"
        lines.append(f"| {' | '.join([name, *cells, *theirs])} |")
    return "\n".join(lines)


def _cell(seconds: list[float]) -> str:
    if not seconds:
        return "–"
    middle = statistics.median(seconds)
    spread = f" ({min(seconds):.2f}–{max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{middle:.2f}{spread}"


if __name__ == "__main__":
    main()
