"""What a measurement on this host is taken under: processor, runtime, clock, temperature, load."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import psutil

from edgeprune.records import Conditions

HOST = "host"

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# Names of the sensors that sit on a processor, by kernel driver: Intel, AMD, Arm, Raspberry Pi.
_CPU_SENSORS = ("coretemp", "k10temp", "cpu_thermal", "cpu-thermal", "soc_thermal")


def host_conditions(backend: str, dtype: str, threads: int) -> Conditions:
    """This host, now. What the platform does not let us read (often in containers) is None."""
    return Conditions(
        device=HOST,
        cpu=cpu_model(),
        runtime=runtime_version(),
        backend=backend,
        dtype=dtype,
        threads=threads,
        governor=governor(),
        frequency_mhz=frequency_mhz(),
        temperature_c=temperature_c(),
        load=psutil.getloadavg()[0],
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """The processor's own name, as in "Intel(R) Xeon(R) CPU @ 2.20GHz"; else its architecture."""
    fields: dict[str, str] = {}
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    # x86 has "model name"; Arm boards have "Model" or "Hardware", or only the core's part number.
    for name in ("model name", "Model", "Hardware"):
        if fields.get(name):
            return fields[name]
    if fields.get("CPU part"):
        return f"{platform.machine()} part {fields['CPU part']}"
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def runtime_version() -> str:
    """The runtime that executes the programs: "executorch X.Y.Z"."""
    return f"executorch {version('executorch')}"


def governor() -> str | None:
    """The kernel's frequency governor ("performance", "schedutil"), where it can be read."""
    try:
        return _GOVERNOR.read_text().strip() or None
    except OSError:
        return None


def frequency_mhz() -> float | None:
    """The clock now, averaged over processors, where it can be read."""
    try:
        now = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError):  # AttributeError: platforms without it
        return None
    return float(now.current) if now is not None and now.current else None


def temperature_c() -> float | None:
    """The hottest processor sensor, degrees Celsius, where there is one."""
    read = getattr(psutil, "sensors_temperatures", None)  # Linux and FreeBSD only
    sensors = read() if read is not None else {}
    found = [entry.current for name in _CPU_SENSORS for entry in sensors.get(name, ())]
    return max(found, default=None)
