"""Does a bundled program give the outputs that it carries? Run here, by upstream's own check."""

from __future__ import annotations

from pathlib import Path

from edgeprune.measuring.process import run_worker

_TIMEOUT_S = 1800.0


def failing_cases(bundled: Path, cases: int, rtol: float, atol: float) -> list[int]:
    """Which of a bundled program's cases give other outputs here than it carries for them.

    An output may be `atol + rtol * |expected|` away. Raises MeasureError where the program cannot
    be run on this machine.
    """
    request = {
        "task": "check",
        "program": str(bundled),
        "threads": 1,
        "cases": cases,
        "rtol": rtol,
        "atol": atol,
    }
    answer = run_worker(request, bundled.name, _TIMEOUT_S)
    return [int(case) for case in answer["failing"]]
