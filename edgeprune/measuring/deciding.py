"""Is a budget met? Met, missed, or undecidable with this noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgeprune.measuring.latency import DEFAULT_EFFORT, Program, measurements, path_of
from edgeprune.measuring.pte import check_program
from edgeprune.measuring.runners import run
from edgeprune.measuring.session import Effort, ProgramSamples, Session, SessionSamples
from edgeprune.measuring.statistics import Interval
from edgeprune.records import Measurement, Progress, Target, Verdict, silent


def verdict(interval_ms: Interval, budget_ms: float) -> Verdict:
    """Whether a median with this 95 % interval is within the budget (which itself is allowed).

    "met" where the whole interval is within, "missed" where none of it is, else "undecidable".
    """
    low, high = interval_ms
    if high <= budget_ms:
        return "met"
    if low > budget_ms:
        return "missed"
    return "undecidable"


def measure_until_decided(
    program: Program,
    target: Target,
    budget_ms: float,
    effort: Effort = DEFAULT_EFFORT,
    progress: Progress = silent,
) -> tuple[Measurement, Verdict]:
    """`measure`, again with as many processes while the verdict is undecidable.

    All samples are pooled and each turn doubles them, up to `effort.max_processes`, where the
    verdict stays "undecidable" and a warning says so. With the default effort that is at most three
    looks at the same 95 % interval, which together err a little more often than one in twenty.
    Raises as `measure` does.
    """
    (measured,) = compare_until(
        [program],
        target,
        effort,
        lambda found: verdict(found[0].interval_ms, budget_ms) != "undecidable",
        progress,
    )
    decided = verdict(measured.interval_ms, budget_ms)
    if decided != "undecidable" or measured.estimated:
        return measured, decided
    low, high = measured.interval_ms
    said = (
        f"after {len(measured.samples_ms)} samples in {measured.processes} processes the median "
        f"lies between {low:.4g} and {high:.4g} ms, and the budget of {budget_ms:.4g} ms is "
        "within: too close to tell with this noise; a quieter machine may"
    )
    return replace(measured, warnings=(*measured.warnings, said)), decided


def compare_until(
    programs: Sequence[Program],
    target: Target,
    effort: Effort,
    decided: Callable[[tuple[Measurement, ...]], bool],
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """`compare`, again with as many processes for as long as `decided` says no of all samples.

    Each turn doubles them, up to `effort.max_processes`. An estimate is final. Raises as `compare`
    does.
    """
    paths = tuple(check_program(path_of(program)) for program in programs)
    session = Session(paths, target, effort)
    answer = run(session, progress)
    while True:
        found = measurements(session, answer)
        room = effort.max_processes - found[0].processes
        if room <= 0 or found[0].estimated or decided(found):
            return found
        more = replace(effort, processes=min(room, found[0].processes))
        answer = _pooled(answer, run(replace(session, effort=more), progress))


def _pooled(first: SessionSamples, second: SessionSamples) -> SessionSamples:
    """Two answers to one session as one: processes appended, the first one's conditions."""
    programs = tuple(
        ProgramSamples(
            a.wall_ms + b.wall_ms,
            a.cpu_ms + b.cpu_ms,
            max(a.peak_rss_bytes, b.peak_rss_bytes),
            _once(a.warnings + b.warnings),
        )
        for a, b in zip(first.programs, second.programs, strict=True)
    )
    return SessionSamples(programs, first.conditions, _once(first.warnings + second.warnings))


def _once(warnings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warnings))
