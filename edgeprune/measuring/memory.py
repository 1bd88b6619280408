"""Resident memory of this process, from Linux's /proc."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_bytes() -> int | None:
    """Resident memory now; None where there is no /proc."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """The highest resident memory since `reset_peak`; None where there is no /proc."""
    return _field("VmHWM")


def reset_peak() -> None:
    """Start the high-water mark anew (see proc_pid_clear_refs(5)).

    Where the kernel does not let us, the peak of importing torch may hide a small program's.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def _field(name: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None
