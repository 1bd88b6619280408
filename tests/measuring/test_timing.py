"""Turns, calibration and warm-up, on callables and a clock of our own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.measuring import timing


class Clock:
    """Both clocks in nanoseconds; `waiting` is wall time that is not CPU time."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0

    def work(self, ns: int, waiting: int = 0) -> None:
        self.cpu += ns
        self.wall += ns + waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(
        timing,
        "time",
        SimpleNamespace(perf_counter_ns=lambda: ours.wall, thread_time_ns=lambda: ours.cpu),
    )
    return ours


def test_two_programs_alternate() -> None:
    assert timing.turns(2, 4) == [(0, 1), (1, 0), (0, 1), (1, 0)]


@given(programs=st.integers(1, 6), cycles=st.integers(1, 5))
def test_everyone_once_a_round_and_first_equally_often(programs: int, cycles: int) -> None:
    rounds = timing.turns(programs, programs * cycles)
    assert all(sorted(order) == list(range(programs)) for order in rounds)
    firsts = [order[0] for order in rounds]
    assert {firsts.count(i) for i in range(programs)} == {cycles}


def test_blocks_run_in_the_order_of_turns(clock: Clock) -> None:
    ran: list[str] = []
    programs = [lambda: ran.append("a"), lambda: ran.append("b")]
    blocks = timing.interleaved(programs, [2, 1], rounds=2)
    # Every block once untimed before it counts.
    assert "".join(ran) == "aaaa" + "bb" + "bb" + "aaaa"
    assert [len(b) for b in blocks] == [2, 2]
    ran.clear()
    timing.interleaved(programs[:1], [3], rounds=2)
    assert "".join(ran) == "aaa" + "aaa"


def test_a_block_is_per_execution_and_keeps_both_clocks(clock: Clock) -> None:
    block = timing.timed(lambda: clock.work(2_000_000, waiting=1_000_000), 4)
    assert block.wall_ms == 3.0
    assert block.cpu_ms == 2.0


@given(ns=st.integers(100, 20_000_000))
def test_calibration_reaches_the_block_without_overshooting(ns: int) -> None:
    ours = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            timing,
            "time",
            SimpleNamespace(perf_counter_ns=lambda: ours.wall, thread_time_ns=lambda: ours.cpu),
        )
        executions = timing.calibrated(lambda: ours.work(ns), min_block_ms=5.0)
    assert executions * ns >= 5_000_000
    assert (executions - 1) * ns <= 5_000_000 + ns


def test_warm_up_ends_when_times_settle(clock: Clock) -> None:
    costs = iter([9_000_000, 7_000_000, 4_000_000, 2_000_000] + [1_000_000] * 100)
    assert timing.warmed_up(lambda: clock.work(next(costs)), 1, limit_ms=1000)
    assert 100_000_000 <= clock.wall < 110_000_000  # not before threads have spread out


def test_warm_up_gives_up_at_its_limit(clock: Clock) -> None:
    cost = [1_000_000]

    def slower() -> None:
        cost[0] = int(cost[0] * 1.1)
        clock.work(cost[0])

    assert not timing.warmed_up(slower, 1, limit_ms=100)
