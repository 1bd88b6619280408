"""What to say when nothing fits: the smallest that can be had, and what would make it less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeprune.planning.limits import Limits, Rules
from edgeprune.units import show_bytes, show_count, show_ms

if TYPE_CHECKING:
    from edgeprune.planning.planner import Planner

Show = Callable[[float], str]
_JUST = 1 - 2e-8
"""What fits only just does not: plans stay below a limit by as much as sums may be off."""
_SHOWN: dict[str, tuple[str, Show, str]] = {
    "latency": ("latency", show_ms, "take"),
    "bytes": ("size", lambda n: show_bytes(round(n)), "take"),
    "macs": ("cost", lambda n: f"{show_count(round(n))} MACs", "take"),
}


def out_of_reach(planner: Planner, limits: Limits, proven: bool) -> str:
    """Why no plan stays within `limits`, with the smallest reachable value and ways out."""
    asked = {"latency": limits.latency_ms, "bytes": limits.size_bytes, "macs": limits.macs}
    for quantity, most in asked.items():
        if most is None:
            continue
        least = planner.least(quantity, limits)
        if least > most * _JUST:
            return _alone(planner, limits, (quantity, most, least))
    if not proven:
        return (
            "no plan within these limits was found in the time given, and none was proven not to "
            "exist. Try a higher time limit, or looser limits"
        )
    return (
        "no plan meets all of these limits together, although each can be met by itself. Loosen "
        f"one of them, let more of every group go ({_floor(limits)}), or take a smaller model"
    )


def _alone(planner: Planner, limits: Limits, wanted: tuple[str, float, float]) -> str:
    quantity, most, least = wanted
    word, show, verb = _SHOWN[quantity]
    ways = [_try(quantity, least), *_ways(planner, limits, wanted), "or a smaller model"]
    return (
        f"a {word} of {show(most)} cannot be met: the smallest plan is predicted to {verb} "
        f"{show(least)} ({_floor(limits)}). Try {', '.join(ways)}"
    )


def _try(quantity: str, least: float) -> str:
    options = {"latency": ("--budget-ms", 1.0), "bytes": ("--budget-mb", 1e6)}
    option, unit = options.get(quantity, ("--budget-mmacs", 1e6))
    return f"{option} {least * 1.05 / unit:.4g}"


def _floor(limits: Limits) -> str:
    return f"at least {limits.floor:.0%} of every group kept"


def _ways(planner: Planner, limits: Limits, wanted: tuple[str, float, float]) -> list[str]:
    """What else would make the limit reachable, or lower the least at all, as predicted."""
    quantity, most, least = wanted
    _, show, _ = _SHOWN[quantity]
    wider: list[tuple[str, Planner, Limits]] = []
    blocks = planner.blocks
    if blocks.known and not blocks.importance:
        free = replace(blocks, importance={b.name: 0.0 for b in blocks.known})
        wider.append(("--drop-blocks", replace(planner, blocks=free, tables={}), limits))
    if limits.floor > 0:
        wider.append(("--floor 0", replace(planner, tables={}), replace(limits, floor=0.0)))
    if planner.rules != Rules():
        wider.append(
            ("fewer demands on groups", replace(planner, rules=Rules(), tables={}), limits)
        )
    found = []
    for option, other, there in wider:
        reached = other.least(quantity, there)
        if reached < least * 0.999:
            enough = "" if reached <= most else ", still not enough"
            found.append(f"{option} (down to {show(reached)}{enough})")
    return found
