"""What whole programs teach a prediction: a line between the sum of kernels and the whole.

The sum of kernels leaves out what lies between them (caches that the neighbour emptied, memory that
is shared), which is close to a share of the whole, and counts for each kernel what it takes to be
called alone, which is close to a constant. Both come from a few programs of one network at
different widths; how far the prediction then is from programs that were left out is its error, and
what a planner should keep as its margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[float, float]
_FEWEST, _APART = 3, 1.5


@dataclass(frozen=True)
class Calibration:
    """measured = factor * predicted + offset_ms, and the relative errors that are left.

    Each error is that of one program as predicted by what all the others teach.
    """

    factor: float
    offset_ms: float
    held_out: tuple[float, ...]

    def at(self, predicted_ms: float) -> float:
        """The corrected prediction, milliseconds."""
        return self.factor * predicted_ms + self.offset_ms

    def inverse(self, measured_ms: float) -> float:
        """What is predicted for programs that take `measured_ms`, milliseconds: never less than
        half or more than twice as much, which no line through a few programs can promise."""
        asked = (measured_ms - self.offset_ms) / self.factor if self.factor > 0 else measured_ms
        return min(max(asked, measured_ms / 2), measured_ms * 2)

    @property
    def margin(self) -> float:
        """By what share a measured program may exceed its prediction: the largest such error."""
        return max((-error for error in self.held_out), default=0.0)


def calibrated(pairs: Sequence[Pair]) -> Calibration:
    """From (predicted, measured) milliseconds of one network's programs; one at least.

    A line, fitted to relative errors, where there are three programs or more and one is predicted
    to take half as long again as another; else the median ratio.
    """
    if not pairs:
        raise ValueError("a calibration needs at least one measured program")
    factor, offset = _line(pairs)
    held_out = []
    for i, (predicted, measured) in enumerate(pairs):
        others = [*pairs[:i], *pairs[i + 1 :]]
        if others:
            slope, constant = _line(others)
            held_out.append((slope * predicted + constant) / measured - 1)
    return Calibration(factor, offset, tuple(held_out))


def _line(pairs: Sequence[Pair]) -> tuple[float, float]:
    """(factor, offset) of the best line."""
    predicted, measured = np.array(pairs, dtype=np.float64).T
    if len(pairs) < _FEWEST or predicted.max() < _APART * predicted.min():
        return float(np.median(measured / predicted)), 0.0
    design = np.stack([predicted / measured, 1 / measured], axis=1)
    (factor, offset), *_ = np.linalg.lstsq(design, np.ones(len(pairs)), rcond=None)
    return float(factor), float(offset)
