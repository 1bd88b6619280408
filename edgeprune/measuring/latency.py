"""`measure` and `compare`: programs in, measurements out; `speedup`: their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from edgeprune.measuring.pte import check_program
from edgeprune.measuring.runners import run
from edgeprune.measuring.session import Effort, ProgramSamples, Session, SessionSamples
from edgeprune.measuring.statistics import (
    UNSTABLE,
    Interval,
    Samples,
    between_processes,
    clock_of,
    ratio_of_medians,
    summarise,
    waiting,
)
from edgeprune.records import Artifact, Measurement, Progress, Target, silent

Program = Artifact | Path | str

DEFAULT_EFFORT = Effort()


def measure(
    program: Program,
    target: Target,
    effort: Effort = DEFAULT_EFFORT,
    progress: Progress = silent,
) -> Measurement:
    """How long one execution of `program` takes on `target`: milliseconds, every sample kept.

    It is the runtime's own execution, warm and back to back: no Python copies of inputs or outputs
    are in it. Works on any .pte, also one that edgeprune did not make. `clock` of the result names
    what its summary is computed from (see `statistics.clock_of`), and `warnings` say what else
    was going on.

    Raises MeasureError where the file is not a program that this runtime runs, where it crashes,
    and where the target's runner fails.
    """
    return compare([program], target, effort, progress)[0]


def compare(
    programs: Sequence[Program],
    target: Target,
    effort: Effort = DEFAULT_EFFORT,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Measure several programs against each other: taking turns in the same processes.

    All are judged by the same clock, so that their ratio (`speedup`) means something. Raises as
    `measure` does.
    """
    paths = tuple(check_program(path_of(program)) for program in programs)
    return measurements(
        Session(paths, target, effort), run(Session(paths, target, effort), progress)
    )


def speedup(before: Measurement, after: Measurement) -> tuple[float, Interval]:
    """How many times faster `after` is: ratio of medians and its 95 % interval.

    Both must come from one `compare`; else ValueError.
    """
    if before.clock != after.clock or before.processes != after.processes:
        raise ValueError("a ratio needs two measurements of one `compare`")
    return ratio_of_medians(samples_of(before), samples_of(after))


def samples_of(measurement: Measurement) -> Samples:
    """The samples that the summary was computed from, (processes, rounds), milliseconds."""
    chosen = measurement.cpu_ms if measurement.clock == "cpu" else measurement.samples_ms
    return np.reshape(np.array(chosen), (measurement.processes, -1))


def measurements(session: Session, answer: SessionSamples) -> tuple[Measurement, ...]:
    """A runner's samples, summarised by one clock."""
    clock = clock_of([(np.array(p.wall_ms), np.array(p.cpu_ms)) for p in answer.programs])
    return tuple(
        _summarised(path, program, answer, clock)
        for path, program in zip(session.programs, answer.programs, strict=True)
    )


def path_of(program: Program) -> Path:
    """Where a program lies."""
    return program.path if isinstance(program, Artifact) else Path(program)


def _summarised(
    path: Path, program: ProgramSamples, answer: SessionSamples, clock: Literal["wall", "cpu"]
) -> Measurement:
    wall, cpu = np.array(program.wall_ms), np.array(program.cpu_ms)
    warnings = [*answer.warnings, *program.warnings]
    if clock == "cpu":
        warnings.append(
            "other work had the processor part of the time (wall time was "
            f"{waiting(wall, cpu):.2f} times CPU time), so latency is given in CPU "
            "time of the one thread: nearer to what a machine to itself would take, and rather "
            "above it, since caches and clock are still shared"
        )
    chosen = cpu if clock == "cpu" else wall
    apart = between_processes(chosen)
    if apart > UNSTABLE:
        warnings.append(
            f"unstable: the medians of its {len(chosen)} processes differ by {apart:.1%}, so "
            "measuring again may give another time"
        )
    summary = summarise(chosen)
    return Measurement(
        path=path,
        samples_ms=tuple(wall.ravel().tolist()),
        cpu_ms=tuple(cpu.ravel().tolist()),
        median_ms=summary.median,
        p10_ms=summary.p10,
        p90_ms=summary.p90,
        interval_ms=summary.interval,
        peak_rss_bytes=program.peak_rss_bytes,
        processes=len(program.wall_ms),
        conditions=answer.conditions,
        warnings=tuple(warnings),
        estimated=answer.estimated,
        clock=clock,
    )
