"""A result from elsewhere → measurements, summarised as if they had been taken from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune.measuring.answers import heat_warnings, program_samples
from edgeprune.measuring.latency import measurements
from edgeprune.measuring.results import Process, Result
from edgeprune.measuring.session import Effort, Session, SessionSamples
from edgeprune.records import Conditions, Measurement, Target

_UNKNOWN = "not told"


@dataclass(frozen=True)
class Device:
    """What a result is taken as: under which name, and in which arithmetic."""

    name: str
    backend: str
    dtype: str


def conditions_of(result: Result, device: Device) -> Conditions:
    """What a result was taken under, as far as it says."""
    first = result.processes[0] if result.processes else None
    machine = first.machine if first is not None else None
    return Conditions(
        device=device.name,
        cpu=(machine.cpu if machine is not None else "") or result.soc or result.device,
        runtime=(first.runtime if first is not None else "") or _UNKNOWN,
        backend=device.backend,
        dtype=device.dtype,
        threads=result.threads,
        governor=machine.governor if machine is not None else None,
        frequency_mhz=_most([p.after.frequency_mhz for p in result.processes]),
        temperature_c=_most([p.after.temperature_c for p in result.processes]),
        load=(machine.load if machine is not None else None) or 0.0,
        date=machine.date if machine is not None else "",
    )


def measured_there(result: Result, device: Device) -> tuple[Measurement, ...]:
    """A measurement of every program of `result`, in its order; their ratio is `speedup`.

    What the device says of heat, screen and battery is among the warnings.
    """
    target = Target(
        device.name, "", device.backend, "none", device.dtype, result.threads, "measured"
    )
    session = Session(tuple(Path(p.name) for p in result.programs), target, Effort())
    answers = [asdict(process) for process in result.processes]
    programs = tuple(
        program_samples([a["programs"][i] for a in answers], _peak(result, i))
        for i in range(len(result.programs))
    )
    told = (*result.warnings, *heat_warnings(answers), *_said(result))
    return measurements(session, SessionSamples(programs, conditions_of(result, device), told))


def _peak(result: Result, program: int) -> int:
    """Peak memory of the process that ran only this program; 0 where there was none."""
    alone: Sequence[Process] = result.alone
    if len(result.programs) == 1:
        alone = result.processes
        return int(max((p.peak_rss_bytes or 0 for p in alone), default=0))
    return int(alone[program].peak_rss_bytes or 0) if alone else 0


def _said(result: Result) -> tuple[str, ...]:
    """What a phone says of itself, where it would slow it down."""
    found = []
    states: tuple[Any, ...] = (result.before, result.after)
    thermal = [s.get("thermal_status") for s in states]
    hot = [t for t in thermal if isinstance(t, (int, float)) and t > 0]
    if hot:
        found.append(f"the device was hot (thermal status {max(hot):g}): it may have slowed down")
    battery = [s.get("battery_percent") for s in states]
    low = [b for b in battery if isinstance(b, (int, float)) and b < 20]
    if low:
        found.append(f"the battery was at {min(low):g} %, where some devices slow down")
    if any(str(s.get("power_save")) in ("1", "true", "True") for s in states):
        found.append("battery saver was on, which lowers the clock")
    return tuple(found)


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
