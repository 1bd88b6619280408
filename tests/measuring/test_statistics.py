"""The interval holds what it promises on synthetic data whose median is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.measuring import statistics
from edgeprune.measuring.statistics import (
    between_processes,
    clock_of,
    interval_of_median,
    ratio_of_medians,
    summarise,
)


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)


def coverage(processes: int, between: float, trials: int = 120) -> float:
    """How often the interval holds the true median, 10, when processes differ by `between`."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(trials):
        shift = rng.normal(0, between, (processes, 1))
        low, high = interval_of_median(10 + shift + rng.normal(0, 0.5, (processes, 20)), seed=trial)
        held += low <= 10 <= high
    return held / trials


def test_interval_covers_the_true_median_of_independent_samples() -> None:
    assert coverage(processes=5, between=0.0) >= 0.93


def test_interval_covers_where_processes_differ_more_than_rounds() -> None:
    # A bootstrap that pooled all samples would hold it in about a third of the trials.
    assert coverage(processes=10, between=1.0) >= 0.85


def test_summary_of_skewed_samples() -> None:
    samples = np.random.default_rng(0).gamma(2.0, 1.0, (3, 40))
    summary = summarise(samples)
    assert summary.median == np.median(samples)
    assert summary.p10 < summary.interval[0] < summary.median < summary.interval[1] < summary.p90
    assert summarise(samples) == summary


def test_noise_common_to_both_cancels_in_the_ratio() -> None:
    rng = np.random.default_rng(0)
    common = rng.gamma(4.0, 0.25, (3, 30))
    ratio, (low, high) = ratio_of_medians(2.0 * common, common)
    assert ratio == pytest.approx(2.0)
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_ratio_wants_one_session() -> None:
    with pytest.raises(ValueError, match="one shape"):
        ratio_of_medians(np.ones((2, 3)), np.ones((3, 3)))


def test_clock() -> None:
    quiet, busy, none = np.full((2, 3), 1.0), np.full((2, 3), 1.5), np.array(())
    cpu = np.full((2, 3), 0.99)
    assert clock_of([(quiet, cpu)]) == "wall"
    assert clock_of([(busy, cpu)]) == "cpu"
    # Lost its processor in one sample of six: the medians hide it.
    hit = quiet.copy()
    hit[0, 0] = 5.0
    assert clock_of([(hit, cpu)]) == "cpu"
    # One clock for all, so that they compare.
    assert clock_of([(quiet, cpu), (busy, cpu)]) == "cpu"
    # Several threads: no CPU samples, wall time however busy the machine.
    assert clock_of([(busy, none)]) == "wall"


def test_processes_that_differ_are_told_from_rounds_that_do() -> None:
    noisy = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert between_processes(noisy) == 0.0
    assert between_processes(np.array([[2.0, 2.0], [2.1, 2.1]])) == pytest.approx(0.05)
