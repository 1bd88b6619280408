"""Numbers with units, read from and shown to people."""

from __future__ import annotations

MEGABYTE = 1_000_000


def show_bytes(n: int) -> str:
    """`n` bytes as people write it (decimal units): 999 B, 12.3 kB, 46.80 MB."""
    if n < 1000:
        return f"{n} B"
    if n < MEGABYTE:
        return f"{n / 1000:.1f} kB"
    return f"{n / MEGABYTE:.2f} MB"


def show_ms(ms: float) -> str:
    """Milliseconds with three significant digits at least: 0.0123 ms, 7.37 ms, 540 ms."""
    if ms >= 100:
        return f"{ms:.0f} ms"
    if ms >= 10:
        return f"{ms:.1f} ms"
    if ms >= 0.1:
        return f"{ms:.2f} ms"
    return f"{ms:.4f} ms"


def show_count(n: int) -> str:
    """A count with a metric suffix: 950, 11.2 k, 11.69 M, 1.82 G."""
    for limit, divisor, suffix, digits in (
        (1_000, 1, "", 0),
        (1_000_000, 1_000, " k", 1),
        (1_000_000_000, 1_000_000, " M", 2),
    ):
        if n < limit:
            return f"{n / divisor:.{digits}f}{suffix}"
    return f"{n / 1_000_000_000:.2f} G"


def show_seconds(seconds: float) -> str:
    """A duration: 0.8 s, 12 s, 3 min 5 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
