"""Workers' answers → a runner's: the same whether they ran here, on a board or on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeprune.measuring.session import ProgramSamples

FORMAT = "edgeprune-samples/1"
"""What a worker calls its answer; see worker.py for its keys."""

WARMUP_MS = 1000.0
_FALLEN = 0.9


def program_samples(answers: Sequence[Any], peak: int) -> ProgramSamples:
    """One program's samples from every process; `answers` are its entries under "programs"."""
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
            f"times had not settled after {WARMUP_MS / 1000:g} s of warm-up "
            f"in {unsettled} of {len(answers)} processes"
        )
    return ProgramSamples(
        wall_ms=tuple(tuple(answer["wall_ms"]) for answer in answers),
        cpu_ms=tuple(tuple(answer["cpu_ms"]) for answer in answers if answer["cpu_ms"]),
        peak_rss_bytes=peak,
        warnings=tuple(warnings),
    )


def heat_warnings(answers: Sequence[Any], cool_below_c: float | None = None) -> tuple[str, ...]:
    """What whole answers say of heat: a clock that fell, throttling, waits for it to cool."""
    said = []
    fell = [a for a in answers if _fell(a["before"]["frequency_mhz"], a["after"]["frequency_mhz"])]
    throttled = [a for a in answers if a.get("throttled")]
    hottest = max((a["after"]["temperature_c"] or 0.0 for a in answers), default=0.0)
    at = f" (up to {hottest:.0f} °C)" if hottest else ""
    if throttled:
        said.append(
            f"the processor was slowed down for heat in {len(throttled)} of {len(answers)} "
            f"processes{at}: these times are those of a hot device"
        )
    elif 2 * len(fell) > len(answers):
        low = min(a["after"]["frequency_mhz"] for a in fell)
        high = max(a["before"]["frequency_mhz"] for a in fell)
        said.append(
            f"the clock fell while measuring in {len(fell)} of {len(answers)} processes, from "
            f"{high:.0f} to {low:.0f} MHz at the most{at}"
        )
    waited = sum(a.get("cooled_s") or 0.0 for a in answers)
    if cool_below_c is not None and waited >= 1:
        said.append(
            f"waited {waited:.0f} s in all for the processor to be below {cool_below_c:g} °C"
        )
        warm = [a["before"]["temperature_c"] or 0.0 for a in answers]
        if max(warm) > cool_below_c:
            said.append(f"it was still at {max(warm):.0f} °C when some samples were begun")
    return tuple(said)


def _fell(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after < _FALLEN * before
