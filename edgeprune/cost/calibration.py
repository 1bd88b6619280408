"""What whole programs teach a prediction: the factor between the sum of kernels and the whole.

The sum of kernels leaves out what lies between them (setting up, caches that the neighbour emptied)
and that is close to a share of the whole. The factor comes from a few programs of one network at
different widths; how far the prediction then is from programs that were left out is its error, and
what a planner should keep as its margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A factor on predictions, and relative errors of programs that were left out of it in turn."""

    factor: float
    held_out: tuple[float, ...]

    @property
    def margin(self) -> float:
        """By what share measured programs may exceed a prediction: the largest error seen."""
        return max((-error for error in self.held_out), default=0.0)


def calibrated(pairs: Sequence[tuple[float, float]]) -> Calibration:
    """From (predicted, measured) milliseconds of one network's programs; one at least.

    The factor is the median ratio, so that one disturbed measurement does not matter. Each error is
    that of one program's prediction by the factor of all the others.
    """
    if not pairs:
        raise ValueError("a calibration needs at least one measured program")
    ratios = np.array([measured / predicted for predicted, measured in pairs])
    others = [np.median(np.delete(ratios, i)) for i in range(len(ratios)) if len(ratios) > 1]
    held_out = tuple(float(other / own - 1) for other, own in zip(others, ratios, strict=False))
    return Calibration(float(np.median(ratios)), held_out)
