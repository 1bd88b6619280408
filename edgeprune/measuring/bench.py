"""The worker with the command line of the C++ runner, for boards that have only Python.

    python3 bench.pyz time --threads 1 --rounds 20 --out result.json a.pte b.pte

`bundle.python_bundle` packs this file with the few that it needs. The board needs Python 3.10 or
newer with executorch and torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORMAT = "edgeprune-samples/1"


def main(argv: Sequence[str] | None = None) -> int:
    """Time programs as `argv` says and write the answer; 0, or 2 where it is an error."""
    options = _parser().parse_args(argv)
    if options.cpus:
        # Before the runtime makes its threads, which inherit where they may run.
        os.sched_setaffinity(0, [int(cpu) for cpu in options.cpus.split(",")])
    from edgeprune.measuring import machine, worker
    from edgeprune.measuring.loaded import CannotLoad

    request = {
        "programs": options.programs,
        "threads": options.threads,
        "rounds": options.rounds,
        "min_block_ms": options.min_block_ms,
        "warmup_ms": options.warmup_ms,
        "seed": options.seed,
    }
    answer: dict[str, Any] = {
        "format": FORMAT,
        "runner": "python",
        "runtime": f"executorch {version('executorch')}",
        "machine": machine.identity(),
    }
    if options.cool_below:
        answer["cooled_s"] = machine.cool(options.cool_below, options.cool_wait_s)
    try:
        answer |= worker.TASKS["time"](request)
    except (CannotLoad, ValueError) as error:
        answer = {"error": str(error)}
    text = json.dumps(answer) + "\n"
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 2 if "error" in answer else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench.pyz", description="Time ExecuTorch programs.")
    parser.add_argument("task", choices=["time"])
    parser.add_argument("programs", nargs="+", metavar="PROGRAM.pte")
    parser.add_argument("--out", help="write the answer there instead of stdout")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="", metavar="2,3", help="run on these processors only")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each program")
    parser.add_argument("--min-block-ms", type=float, default=5.0)
    parser.add_argument("--warmup-ms", type=float, default=1000.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cool-below", type=float, default=0.0, metavar="C")
    parser.add_argument("--cool-wait-s", type=float, default=300.0, metavar="S")
    return parser


if __name__ == "__main__":
    sys.exit(main())
