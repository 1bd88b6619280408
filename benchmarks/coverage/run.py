"""Every torchvision model, and timm's: what is pruned, exactly, at what cost, beside Torch-Pruning.

    python benchmarks/coverage/run.py OUT [NAME ...] [--no-lower] [--no-peer] [--seconds S]

NAME is a model, a set (classification, segmentation, video, detection; timm where timm is
installed) or a pattern ("swin*");
all by default. OUT/results.jsonl gets a line for each model and part as soon as it is known: a run
that was stopped goes on. `--again` runs the named ones once more. Prints Markdown.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests"), str(HERE.parents[1])]

from isolated import Isolated, Limits  # noqa: E402
from tables import markdown  # noqa: E402
from zoo_checks import check_lowering, check_pruning  # noqa: E402
from zoo_models import zoo  # noqa: E402
from zoo_peer import check_peer, is_installed  # noqa: E402

PARTS = {
    "prune": (check_pruning, Limits(cpu_s=600)),
    "peer": (check_peer, Limits(cpu_s=120, wall_s=600)),
    "lower": (check_lowering, Limits(cpu_s=600)),
}
"""The check of each part, and what it may take."""


def main() -> None:
    """Run what is asked for and not yet known, and print the tables."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end what was started
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.jsonl"
    rows = _rows(file)
    names = [e.name for e in zoo().values() if _is_named(e.name, e.set, asked.names)]
    parts = [part for part in PARTS if part in asked.parts.split(",")]
    if asked.no_lower:
        parts.remove("lower")
    if asked.no_peer or not is_installed():
        print("Torch-Pruning's columns are left out", file=sys.stderr)
        parts = [part for part in parts if part != "peer"]
    isolated = Isolated(["zoo_checks", "zoo_peer"])
    started, commit = time.monotonic(), _commit()
    for part in parts:
        check, limits = PARTS[part]
        for name in names:
            if asked.table or ((name, part) in rows and not asked.again):
                continue
            if part == "peer" and zoo()[name].set == "detection":
                continue
            if time.monotonic() - started > asked.seconds:
                print("to be continued", file=sys.stderr)
                sys.exit(3)
            found = {"model": name, "part": part, "commit": commit}
            found |= isolated.run(check, name, limits)
            rows[name, part] = found
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(found) + "\n")
            print(json.dumps(found), file=sys.stderr, flush=True)
    print(markdown(zoo(), rows))


def _commit() -> str:
    """The commit that is measured, with a mark where files differ from it."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of prune,peer,lower")
    parser.add_argument("--no-lower", action="store_true", help="leave out lowering (minutes each)")
    parser.add_argument("--no-peer", action="store_true", help="leave out Torch-Pruning")
    parser.add_argument("--again", action="store_true", help="run what is known already, too")
    parser.add_argument("--table", action="store_true", help="only print what is known")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="start nothing after so long (exit 3)"
    )
    return parser.parse_args()


def _is_named(name: str, kind: str, words: list[str]) -> bool:
    return not words or any(kind == word or fnmatch.fnmatch(name, word) for word in words)


def _rows(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last line of each model and part."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    return {(row["model"], row["part"]): row for row in found}


if __name__ == "__main__":
    main()
