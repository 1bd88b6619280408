"""The runner for the machine edgeprune runs on: one worker process after another."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from edgeprune.cost.conditions import host_conditions
from edgeprune.measuring.answers import WARMUP_MS, heat_warnings, program_samples
from edgeprune.measuring.process import run_worker
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import Session, SessionSamples
from edgeprune.records import Progress

_MEMORY_ROUNDS = 1
_NOTICED_CPUS = 0.1


@runner("local")
def run_local(session: Session, progress: Progress) -> SessionSamples:
    """Time the session's programs here; every process loads all of them and lets them take turns.

    Peak memory is that of a process that ran only the one program: where several are compared,
    one more short process for each.
    """
    target, effort = session.target, session.effort
    alone = len(session.programs) == 1  # then the timing processes show its memory as well
    by_itself = effort.memory and not alone
    steps = effort.processes + (len(session.programs) if by_itself else 0)
    conditions = host_conditions(target.backend, target.dtype, target.threads)
    load = _OtherLoad()
    answers = []
    for i in range(effort.processes):
        progress("measure", i, steps, f"process {i + 1} of {effort.processes}")
        answers.append(_timed(session, session.programs, effort.rounds, load))
    if alone:
        peaks = [max(answer["peak_rss_bytes"] or 0 for answer in answers)]
    elif not by_itself:
        peaks = [0] * len(session.programs)
    else:
        peaks = []
        for i, path in enumerate(session.programs):
            progress("measure", effort.processes + i, steps, f"memory of {path.name}")
            peaks.append(_timed(session, [path], _MEMORY_ROUNDS, load)["peak_rss_bytes"] or 0)
    progress("measure", steps, steps)
    samples = tuple(
        program_samples([answer["programs"][i] for answer in answers], peak)
        for i, peak in enumerate(peaks)
    )
    return SessionSamples(samples, conditions, load.warnings() + heat_warnings(answers))


def _timed(session: Session, programs: Sequence[Path], rounds: int, load: _OtherLoad) -> Any:
    effort = session.effort
    request = {
        "task": "time",
        "programs": [str(path) for path in programs],
        "threads": session.target.threads,
        "rounds": rounds,
        "min_block_ms": effort.min_block_ms,
        "warmup_ms": WARMUP_MS,
        "seed": effort.seed,
    }
    subject = " and ".join(path.name for path in programs)
    answer = run_worker(request, subject, effort.timeout_s)
    load.ours_s += answer["process_s"]
    return answer


class _OtherLoad:
    """What everybody else did with the processors since this was made."""

    def __init__(self) -> None:
        self.ours_s = 0.0
        self._wall = time.perf_counter()
        self._own = time.process_time()
        self._busy = _busy_s()

    def warnings(self) -> tuple[str, ...]:
        """One warning if others used more than a tenth of a processor on average."""
        wall = time.perf_counter() - self._wall
        own = time.process_time() - self._own + self.ours_s
        others = (_busy_s() - self._busy - own) / wall
        if others <= _NOTICED_CPUS:
            return ()
        cpus = os.cpu_count() or 1
        return (f"other processes kept {others:.1f} of {cpus} processors busy while measuring",)


def _busy_s() -> float:
    """CPU seconds of the whole machine, stolen time included (guests are counted in user)."""
    times = psutil.cpu_times()
    still = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - still - guests)
