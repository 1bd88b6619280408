"""Whole programs around a plan, measured before the first round: how predictions are off there.

They are the network's program with other sizes (candidates.py), a second each, once a program at
telling widths was truly lowered. A line between what is predicted and what is measured does
not change which plans are best, only which latency is to be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.candidates import Programs
from edgeprune.cost.calibration import Calibration, calibrated
from edgeprune.cost.resizing import CannotResize
from edgeprune.measuring import Effort, compare, speedup
from edgeprune.planning.drawn import around
from edgeprune.records import CostModel, Widths

PLAIN = Calibration(1.0, 0.0, ())
_EFFORT = Effort(processes=2, rounds=10, memory=False)


@dataclass(frozen=True)
class Around:
    """Where to calibrate: `count` programs at widths around `widths`, as `cost` predicts them."""

    widths: Widths
    count: int
    cost: CostModel


def calibrate(programs: Programs, asked: Around, folder: Path) -> Calibration:
    """A line through the baseline and programs around a plan, measured in turns in one session.

    Lowers a program at telling widths first where none was. Raises CannotResize where the network's
    programs are not resized.
    """
    if programs.refused:
        raise CannotResize(programs.refused)
    if not programs.ready:
        programs.tell(folder / "telling.pte")
    drawn = [around(programs.groups, asked.widths, seed) for seed in range(asked.count)]
    made = [programs.at(w, folder / f"around{i}.pte") for i, w in enumerate(drawn)]
    baseline = programs.baseline
    paths = [baseline.path, *(candidate.path for candidate in made)]
    before, *after = compare(paths, programs.target, _EFFORT)
    pairs = [(asked.cost.latency_ms(programs.groups.full_widths()), baseline.latency_ms)]
    for widths, measured in zip(drawn, after, strict=True):
        ratio, _ = speedup(before, measured)
        pairs.append((asked.cost.latency_ms(widths), baseline.latency_ms / ratio))
    return calibrated(pairs)
