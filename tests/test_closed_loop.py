"""The loop's arithmetic; the loop itself runs in test_pipeline.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.closed_loop import AIM, ROUNDS, judge, latency_limit, next_latency, worst
from edgeprune.records import Budget, Conditions, Measurement

CONDITIONS = Conditions("host", "cpu", "r", "xnnpack", "fp32", 1, None, None, None, 0.0, "now")


def measured(median: float, spread: float = 0.01) -> Measurement:
    samples = tuple(median * (1 + spread * ((i % 5) - 2) / 2) for i in range(40))
    return Measurement(
        path=Path("x.pte"),
        samples_ms=samples,
        cpu_ms=(),
        median_ms=median,
        p10_ms=min(samples),
        p90_ms=max(samples),
        interval_ms=(median * (1 - spread / 4), median * (1 + spread / 4)),
        peak_rss_bytes=0,
        processes=2,
        conditions=CONDITIONS,
    )


def test_the_tighter_of_two_latency_budgets_counts() -> None:
    assert latency_limit(Budget(speedup=2), 10.0) == 5.0
    assert latency_limit(Budget(latency_ms=4, speedup=2), 10.0) == 4.0
    assert latency_limit(Budget(size_bytes=1), 10.0) is None


@pytest.mark.parametrize(
    ("after", "size", "budget", "verdict"),
    [
        (4.0, 10, Budget(latency_ms=5.0), "met"),
        (6.0, 10, Budget(latency_ms=5.0), "missed"),
        (5.0, 10, Budget(latency_ms=5.0), "undecidable"),
        (4.0, 10, Budget(speedup=2.0), "met"),
        (6.0, 10, Budget(speedup=2.0), "missed"),
        (4.0, 10, Budget(latency_ms=5.0, size_bytes=9), "missed"),
        (4.0, 9, Budget(latency_ms=5.0, size_bytes=9), "met"),
    ],
)
def test_verdicts(after: float, size: int, budget: Budget, verdict: str) -> None:
    found, reasons = judge(measured(10.0), measured(after), size, budget)
    assert found == verdict
    assert bool(reasons) == (verdict != "met")


def test_the_worst_verdict_counts() -> None:
    assert worst(["met", "undecidable"]) == "undecidable"
    assert worst(["undecidable", "missed", "met"]) == "missed"


@given(true=st.floats(0.3, 3.0), bend=st.floats(0.7, 1.3))
def test_asking_again_closes_in_on_the_budget(true: float, bend: float) -> None:
    """A device that takes true * asked ** bend: the rounds there are come within 5 %."""
    limit = 1.0
    points: list[tuple[float, float]] = []
    asked = limit * AIM
    for _ in range(ROUNDS):
        took = true * asked**bend
        points.append((asked, took))
        if 0.95 <= took <= 1.0:
            return
        asked = next_latency(limit, tuple(points))
    raise AssertionError(points)


def test_two_sides_bracket_the_next_question() -> None:
    asked = next_latency(1.0, ((1.0, 0.7), (1.3, 1.4)))
    assert 1.0 < asked < 1.3
