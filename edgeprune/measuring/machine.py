"""What Linux lets us read of the machine a worker runs on, with nothing but the standard library.

The worker also runs on boards that have no psutil; runner/machine.h reads the same in C++. What
cannot be read is None.
"""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_CPU = Path("/sys/devices/system/cpu")
_ZONES = Path("/sys/class/thermal")
_CPUINFO = Path("/proc/cpuinfo")
_ON_PROCESSOR = ("cpu", "soc", "x86_pkg", "coretemp", "k10temp")


def state() -> dict[str, float | None]:
    """Temperature (°C) and clock (MHz) now."""
    return {"temperature_c": temperature_c(), "frequency_mhz": frequency_mhz()}


def identity() -> dict[str, Any]:
    """Processor, architecture, the processors we may run on, governor, load and date."""
    cpus = allowed_cpus()
    return {
        "cpu": processor(),
        "architecture": platform.machine(),
        "cpus": cpus,
        "governor": _first_line(_CPU / f"cpu{min(cpus, default=0)}/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0],
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """x86's model name, else the board's name, else the core's part number."""
    fields: dict[str, str] = {}
    for line in _lines(_CPUINFO):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    named = next((fields[k] for k in ("model name", "Model", "Hardware") if fields.get(k)), None)
    part = f"{platform.machine()} part {fields['CPU part']}" if fields.get("CPU part") else None
    return named or part or platform.machine()


def allowed_cpus() -> list[int]:
    """The processors that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return sorted(affinity(0)) if affinity is not None else []


def frequency_mhz() -> float | None:
    """The clock now, the mean over the processors we may run on."""
    current = [_number(_CPU / f"cpu{n}/cpufreq/scaling_cur_freq") for n in allowed_cpus()]
    known = [khz / 1000 for khz in current if khz is not None]
    if not known:
        told = [line.partition(":")[2] for line in _lines(_CPUINFO) if line.startswith("cpu MHz")]
        known = [float(value) for value in told]
    return sum(known) / len(known) if known else None


def temperature_c() -> float | None:
    """The hottest thermal zone of a processor, degrees Celsius."""
    found = []
    for zone in sorted(_ZONES.glob("thermal_zone*")):
        kind, value = (_first_line(zone / "type") or "").lower(), _number(zone / "temp")
        if value is None or not any(word in kind for word in _ON_PROCESSOR):
            continue
        # Some devices give degrees, most thousandths; what no processor survives is no reading.
        celsius = value / 1000 if abs(value) > 1000 else value
        if 0 < celsius < 150:
            found.append(celsius)
    return max(found, default=None)


def cool(below_c: float, most_s: float) -> float:
    """Wait until the processor is below `below_c`; the seconds waited, at most about `most_s`.

    Returns at once where there is no sensor.
    """
    started = time.monotonic()
    while time.monotonic() - started < most_s:
        now = temperature_c()
        if now is None or now < below_c:
            break
        time.sleep(1)
    return time.monotonic() - started


def _number(path: Path) -> float | None:
    try:
        return float(_first_line(path) or "")
    except ValueError:
        return None


def _first_line(path: Path) -> str | None:
    return next((line.strip() for line in _lines(path)), None) or None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # not there, or there and refused: both are common in containers
        return []
