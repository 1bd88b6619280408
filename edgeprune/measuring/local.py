"""The runner for the machine edgeprune runs on: one worker process after another."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from edgeprune.cost.conditions import host_conditions
from edgeprune.measuring.process import run_worker
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import ProgramSamples, Session, SessionSamples
from edgeprune.records import Conditions, Progress

_WARMUP_MS = 1000.0
_MEMORY_ROUNDS = 1
_NOTICED_CPUS = 0.1
_THROTTLED = 0.05
_HOT_C = 90.0


@runner("local")
def run_local(session: Session, progress: Progress) -> SessionSamples:
    """Time the session's programs here; every process loads all of them and lets them take turns.

    Peak memory is that of a process that ran only the one program: where several are compared,
    one more short process for each.
    """
    target, effort = session.target, session.effort
    alone = len(session.programs) == 1  # then the timing processes show its memory as well
    steps = effort.processes + (0 if alone else len(session.programs))
    conditions = host_conditions(target.backend, target.dtype, target.threads)
    load = _OtherLoad()
    answers = []
    for i in range(effort.processes):
        progress("measure", i, steps, f"process {i + 1} of {effort.processes}")
        answers.append(_timed(session, session.programs, effort.rounds, load))
    if alone:
        peaks = [max(answer["peak_rss_bytes"] or 0 for answer in answers)]
    else:
        peaks = []
        for i, path in enumerate(session.programs):
            progress("measure", effort.processes + i, steps, f"memory of {path.name}")
            peaks.append(_timed(session, [path], _MEMORY_ROUNDS, load)["peak_rss_bytes"] or 0)
    progress("measure", steps, steps)
    after = host_conditions(target.backend, target.dtype, target.threads)
    samples = tuple(
        _program([answer["programs"][i] for answer in answers], peak)
        for i, peak in enumerate(peaks)
    )
    warnings = (*load.warnings(), *slowed_down(conditions, after))
    return SessionSamples(samples, conditions, warnings)


def _timed(session: Session, programs: Sequence[Path], rounds: int, load: _OtherLoad) -> Any:
    effort = session.effort
    request = {
        "task": "time",
        "programs": [str(path) for path in programs],
        "threads": session.target.threads,
        "rounds": rounds,
        "min_block_ms": effort.min_block_ms,
        "warmup_ms": _WARMUP_MS,
        "seed": effort.seed,
    }
    subject = " and ".join(path.name for path in programs)
    answer = run_worker(request, subject, effort.timeout_s)
    load.ours_s += answer["process_s"]
    return answer


def _program(answers: Sequence[Any], peak: int) -> ProgramSamples:
    """One program's samples from every process."""
    warnings = []
    if answers[0]["planned_inputs"]:
        warnings.append(
            "the program plans memory for its inputs, so the runtime copies them in at every "
            "execution, and that is in these times (edgeprune's own programs do not)"
        )
    unsettled = sum(not answer["settled"] for answer in answers)
    if not peak:
        warnings.append("peak memory is not known: this system has no /proc to read it from")
    if 2 * unsettled > len(answers):
        warnings.append(
            f"times had not settled after {_WARMUP_MS / 1000:g} s of warm-up "
            f"in {unsettled} of {len(answers)} processes"
        )
    return ProgramSamples(
        wall_ms=tuple(tuple(answer["wall_ms"]) for answer in answers),
        cpu_ms=tuple(tuple(answer["cpu_ms"]) for answer in answers if answer["cpu_ms"]),
        peak_rss_bytes=peak,
        warnings=tuple(warnings),
    )


def slowed_down(before: Conditions, after: Conditions) -> tuple[str, ...]:
    """A warning where the processor's clock fell by a twentieth, or it is hot, while measuring."""
    warnings = []
    if before.frequency_mhz and after.frequency_mhz:
        fell = 1 - after.frequency_mhz / before.frequency_mhz
        if fell > _THROTTLED:
            warnings.append(
                f"the clock fell by {fell:.0%} while measuring, from {before.frequency_mhz:.0f} to "
                f"{after.frequency_mhz:.0f} MHz: times are of a processor that slows down"
            )
    if after.temperature_c is not None and after.temperature_c >= _HOT_C:
        warnings.append(
            f"the processor is at {after.temperature_c:.0f} °C, where many slow down: let it cool "
            "and measure again"
        )
    return tuple(warnings)


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
