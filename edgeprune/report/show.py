"""Numbers of a report as people read them; what is not known is a dash."""

from __future__ import annotations

import math
import re

from edgeprune.report.schema import BudgetJson, MetricJson, ReportJson
from edgeprune.units import show_bytes, show_count, show_ms

UNKNOWN = "–"
_MINUS = "\u2212"


def ms(value: float | None) -> str:
    """Milliseconds with their unit."""
    return UNKNOWN if value is None else show_ms(value)


def span_ms(interval: list[float | None]) -> str:
    """An interval in milliseconds, its unit once: three digits, more where its ends need them."""
    low, high = interval if len(interval) == 2 else (None, None)
    if low is None or high is None:
        return UNKNOWN
    digits = 2 - _power_of_ten(high)
    if high != low:
        digits = max(digits, -_power_of_ten(high - low))
    digits = min(max(digits, 0), 4)
    return f"{low:.{digits}f}–{high:.{digits}f} ms"


def speedup(data: ReportJson) -> str:
    """The speedup in words, with its interval: 2.09× as fast (2.06–2.12×)."""
    words, interval = f"{ratio(data['speedup'])} as fast", speedup_interval(data)
    return f"{words} ({interval})" if interval else words


def speedup_interval(data: ReportJson) -> str:
    """The interval of the speedup, 2.06–2.12×; empty where there is none."""
    ends = data["speedup_interval"]
    if data["speedup"] is None or len(ends) != 2 or None in ends:
        return ""
    return f"{ratio(ends[0])[:-1]}–{ratio(ends[1])}"


def clock(data: ReportJson) -> str:
    """What the latencies were read from."""
    return {"wall": "wall time", "cpu": "CPU time of the thread"}[
        data["final"]["latency_ms"]["clock"]
    ]


def unit(value: float | None, name: str, digits: int) -> str | None:
    """A reading with its unit; None stays None."""
    return None if value is None else f"{value:.{digits}f} {name}".rstrip()


def date(text: str) -> str:
    """An ISO 8601 date to the minute: 2025-03-14 10:22 UTC. Anything else is left as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::[\d.]+)?(Z|[+-]\d\d:?\d\d)?", text)
    if found is None:
        return text
    zone = {"Z": "UTC", "+00:00": "UTC", None: ""}.get(found[3], found[3])
    return f"{found[1]} {found[2]} {zone}".rstrip()


def size(value: int | None) -> str:
    """Bytes with their unit; zero means that nobody counted."""
    return show_bytes(value) if value else UNKNOWN


def share(value: float | None) -> str:
    """A share of 0 to 1 in per cent."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def us(value: float | None) -> str:
    """Microseconds without unit, one decimal, so that a column of them lines up."""
    return UNKNOWN if value is None else f"{value:,.1f}"


def number(value: float | None) -> str:
    """A metric's value: four decimals for fractions and losses, two for percentages."""
    if value is None:
        return UNKNOWN
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.2f}"


def small(value: float | None) -> str:
    """A difference that is zero or tiny: 3.1e-06."""
    return UNKNOWN if value is None else f"{value:.1e}" if value else "0"


def metric(value: MetricJson | None) -> str:
    """A metric's value, without its name."""
    return UNKNOWN if value is None else number(value["value"])


def ratio(value: float | None) -> str:
    """A speedup: 2.28×."""
    return UNKNOWN if value is None else f"{value:.2f}×"


def signed(value: float, digits: int) -> str:
    """A number with its sign, and a minus as wide as the plus; nothing rounds to −0."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        return f"{0:.{digits}f}"
    return text.replace("-", _MINUS)


def change(before: float | None, after: float | None) -> str:
    """The relative change in per cent: −68 %, +1.3 %."""
    if not before or after is None:
        return UNKNOWN
    percent = 100 * (after / before - 1)
    return f"{signed(percent, 0 if abs(percent) >= 10 else 1)} %"


def metric_change(before: MetricJson | None, after: MetricJson | None) -> str:
    """The absolute change of a metric, in its own points."""
    if before is None or after is None or before["value"] is None or after["value"] is None:
        return UNKNOWN
    return difference(before["value"], after["value"])


def difference(before: float, after: float) -> str:
    """after − before, signed, in as many decimals as the values themselves are shown with."""
    return signed(after - before, 4 if max(abs(before), abs(after)) < 2 else 2)


def budget(value: BudgetJson) -> list[str]:
    """Every limit that was set, one phrase each."""
    limits = []
    if value["latency_ms"] is not None:
        limits.append(f"latency ≤ {show_ms(value['latency_ms'])}")
    if value["speedup"] is not None:
        limits.append(f"speedup ≥ {value['speedup']:g}×")
    if value["size_bytes"] is not None:
        limits.append(f"size ≤ {show_bytes(value['size_bytes'])}")
    memory, macs = value.get("memory_bytes"), value.get("macs")
    if memory is not None:
        limits.append(f"activations ≤ {show_bytes(memory)}")
    if macs is not None:
        limits.append(f"{show_count(macs)} MACs at most")
    if value["max_drop"] is not None:
        limits.append(f"drop ≤ {value['max_drop']:g} point{'s' * (value['max_drop'] != 1)}")
    return limits


def latency_limit_ms(data: ReportJson) -> float | None:
    """The latency that the budget allows; a speedup counts from the measured baseline."""
    limits = [data["budget"]["latency_ms"]]
    speedup, baseline = data["budget"]["speedup"], data["baseline"]["latency_ms"]["median"]
    if speedup and baseline is not None:
        limits.append(baseline / speedup)
    return min((limit for limit in limits if limit is not None), default=None)


def estimated(data: ReportJson) -> bool:
    """Whether the latencies and costs are estimates rather than measurements of the device."""
    sides = (data["baseline"], data["final"])
    return data["target"]["costs"] == "estimated" or any(
        side["latency_ms"]["estimated"] for side in sides
    )


def _power_of_ten(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
