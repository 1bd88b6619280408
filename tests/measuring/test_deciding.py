"""Met, missed, undecidable; and asking for more samples before saying the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.measuring import Effort, deciding, measure_until_decided, verdict
from edgeprune.measuring.session import ProgramSamples, Session, SessionSamples
from edgeprune.records import Conditions, Target

CONDITIONS = Conditions(
    "host", "cpu", "executorch 1", "xnnpack", "fp32", 1, None, None, None, 0.0, "2030-01-01"
)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.0, 1.9), "met"),
        ((1.0, 2.0), "met"),
        ((1.9, 2.1), "undecidable"),
        ((2.0, 2.1), "undecidable"),
        ((2.01, 2.1), "missed"),
    ],
)
def test_verdict(interval: tuple[float, float], expected: str) -> None:
    assert verdict(interval, 2.0) == expected


@given(st.floats(0.01, 100), st.floats(0, 10), st.floats(0.01, 100))
def test_more_budget_never_turns_met_into_less(low: float, width: float, budget: float) -> None:
    order = ["missed", "undecidable", "met"]
    now, later = verdict((low, low + width), budget), verdict((low, low + width), budget * 2)
    assert order.index(later) >= order.index(now)


def samples(ms: float, spread: float) -> Callable[[Session, object], SessionSamples]:
    """A runner whose samples have median `ms`; counts on being called in turn."""
    rng = np.random.default_rng(0)

    def answer(session: Session, progress: object) -> SessionSamples:
        effort = session.effort
        drawn = ms + rng.normal(0, spread, (effort.processes, effort.rounds))
        wall = tuple(tuple(row) for row in drawn.tolist())
        return SessionSamples((ProgramSamples(wall, wall, 5, ("w",)),), CONDITIONS, ("load",))

    return answer


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "x.pte"
    path.write_bytes(b"\0\0\0\0ET12")
    return path


def test_a_clear_case_is_measured_once(
    program: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "run", samples(10.0, 0.1))
    measured, decided = measure_until_decided(program, target, 12.0)
    assert decided == "met"
    assert measured.processes == 3
    assert measured.warnings == ("load", "w")
    _, decided = measure_until_decided(program, target, 9.0)
    assert decided == "missed"


def test_a_close_case_is_measured_again_and_then_decided(
    program: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "run", samples(10.0, 1.0))
    measured, decided = measure_until_decided(
        program, target, 10.18, Effort(processes=2, rounds=20, max_processes=200)
    )
    assert decided == "met"
    assert measured.processes > 2
    assert len(measured.samples_ms) == 20 * measured.processes
    assert measured.warnings[:2] == ("load", "w")
    assert measured.warnings[2].startswith("unstable")


def test_an_undecidable_case_stops_at_the_limit_and_says_so(
    program: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "run", samples(10.0, 1.0))
    measured, decided = measure_until_decided(
        program, target, 10.0, Effort(processes=2, rounds=10, max_processes=5)
    )
    assert decided == "undecidable"
    assert measured.processes == 5
    assert "too close to tell" in measured.warnings[-1]
