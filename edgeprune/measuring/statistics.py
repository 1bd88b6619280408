"""Medians, spread and intervals of samples that come from several processes. Pure functions.

Samples are (processes, rounds) in milliseconds. Samples of one process resemble each other (memory
layout, clock, neighbours), so pretending that all are independent makes intervals too narrow. The
bootstrap here resamples processes first and rounds within each (Davison and Hinkley, Bootstrap
Methods and their Application, section 3.8), as Kalibera and Jones recommend (Rigorous benchmarking
in reasonable time, ISMM 2013). With few processes it still cannot see more variety than they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
RESAMPLES = 2000
# Wall time of one thread exceeds its CPU time by about a percent on a quiet machine.
BUSY = 1.03
UNSTABLE = 0.02
"""By what share medians of processes may differ before a measurement is called unstable."""


@dataclass(frozen=True)
class Summary:
    """Milliseconds: median, 10th and 90th percentile, 95 % interval of the median."""

    median: float
    p10: float
    p90: float
    interval: Interval


def summarise(samples: Samples, seed: int = 0) -> Summary:
    """The summary of (processes, rounds) samples."""
    p10, median, p90 = np.percentile(samples, (10, 50, 90))
    return Summary(float(median), float(p10), float(p90), interval_of_median(samples, seed))


def interval_of_median(samples: Samples, seed: int = 0) -> Interval:
    """95 % bootstrap interval of the median of (processes, rounds) samples."""
    rng = np.random.default_rng(seed)
    medians = [np.median(samples[_resample(rng, samples.shape)]) for _ in range(RESAMPLES)]
    return _central(medians)


def ratio_of_medians(first: Samples, second: Samples, seed: int = 0) -> tuple[float, Interval]:
    """median(first) / median(second) and its 95 % interval.

    Both are (processes, rounds) of one interleaved session: the same processes and rounds are
    drawn for both, so that noise that hit both cancels.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"samples of one session have one shape, not {first.shape}, {second.shape}"
        )
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = _resample(rng, first.shape)
        ratios.append(np.median(first[drawn]) / np.median(second[drawn]))
    return float(np.median(first) / np.median(second)), _central(ratios)


def clock_of(programs: Sequence[tuple[Samples, Samples]]) -> Literal["wall", "cpu"]:
    """Which clock to judge a session by, from each program's (wall, cpu) samples.

    Wall time is what a user waits for. But where one thread runs and wall time exceeds its CPU
    time by more than 3 %, the thread was waiting for a processor that others had: CPU time is
    then the better estimate of the wall time on a machine that is not shared. It errs upwards,
    because caches and clock remain shared: a budget met by it is met. One clock for the whole
    session, so that its programs compare. Several threads have no CPU samples: wall.
    """
    waited = [waiting(wall, cpu) for wall, cpu in programs if cpu.size]
    return "cpu" if len(waited) == len(programs) and max(waited) > BUSY else "wall"


def waiting(wall: Samples, cpu: Samples) -> float:
    """Wall time over CPU time, in all.

    Of the sums, not the medians: a thread that loses its processor for a few milliseconds in a
    third of the samples leaves the medians alone and blows up the interval.
    """
    return float(np.sum(wall) / np.sum(cpu))


def between_processes(samples: Samples) -> float:
    """How far the largest median of a process lies above the smallest, as a share of that."""
    medians = np.median(samples, axis=1)
    return float(medians.max() / medians.min() - 1)


def _resample(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of processes drawn with replacement, and of rounds drawn within each."""
    processes, rounds = shape
    which = rng.integers(processes, size=processes)
    return which[:, None], rng.integers(rounds, size=(processes, rounds))


def _central(values: Sequence[np.floating]) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)
