"""What came out of a fit: the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeprune.records.device import Measurement, Target
from edgeprune.records.network import Pinned, Sparsity
from edgeprune.records.wishes import Budget, Metric

Verdict = Literal["met", "missed", "undecidable"]
Made = Literal["lowered", "resized"]
"""How a program came to be: lowered from its network, or a lowered one with its sizes rewritten."""


@dataclass(frozen=True)
class Side:
    """One program in the report: the baseline or the final one."""

    latency: Measurement
    size_bytes: int
    params: int
    macs: int
    planned_bytes: int
    metric: Metric | None
    compressed_bytes: int | None = None
    """The .pte after zlib at level 9."""
    zeros: float | None = None
    """The share of the parameters that are exactly zero."""


@dataclass(frozen=True)
class Stage:
    """One step of a run: what it was, how long it took, and the metric on the validation split."""

    name: str
    seconds: float
    metric: Metric | None = None
    note: str = ""


@dataclass(frozen=True)
class Layer:
    """One weight-carrying layer before and after: its width (in, out) and its cost."""

    name: str
    op: str
    before: tuple[int, int]
    after: tuple[int, int]
    before_us: float | None
    after_us: float | None


@dataclass(frozen=True)
class Round:
    """One turn of the closed loop: what was predicted, what was measured.

    `importance` is the share of the network's importance that the plan keeps, `gap` by how much of
    it the best plan for the same prediction may be better. A program that was "resized" is only on
    the way to one that was "lowered".
    """

    budget_ms: float | None
    predicted_ms: float | None
    measured_ms: float | None
    size_bytes: int
    verdict: Verdict
    importance: float | None = None
    gap: float | None = None
    made: Made = "lowered"


@dataclass(frozen=True)
class Parity:
    """Eager against .pte on real inputs: max |difference|, and that over max |eager|.

    `all_zero`: every eager value is 0, so that agreement says nothing of the program.
    """

    max_abs: float
    max_rel: float
    samples: int
    top1_agreement: float | None = None
    all_zero: bool = False


@dataclass(frozen=True)
class OnDevice:
    """Both programs of a finished run, as somebody else measured them on a device.

    `name` is the target that they were measured for, `device` and `system` what the device calls
    itself. `verdict` is on the run's budget, None where that names neither time nor size. `parity`
    is of the final program's outputs there and here, None where they were not compared.
    """

    name: str
    device: str
    system: str
    runner: str
    baseline: Measurement
    final: Measurement
    speedup: float
    speedup_interval: tuple[float, float]
    verdict: Verdict | None
    reasons: tuple[str, ...] = ()
    parity: Parity | None = None


@dataclass(frozen=True)
class Report:
    """The whole of one `fit`. `report.json` is this, through `report.to_json`."""

    model: str
    target: Target
    verdict: Verdict
    reasons: tuple[str, ...]
    budget: Budget
    baseline: Side
    final: Side
    speedup: float
    speedup_interval: tuple[float, float]
    parity: Parity | None
    """None where this machine's runtime cannot run such a program."""
    stages: tuple[Stage, ...]
    rounds: tuple[Round, ...]
    layers: tuple[Layer, ...]
    pinned: tuple[Pinned, ...]
    artifacts: Mapping[str, str]
    versions: Mapping[str, str]
    notes: Sequence[str] = ()
    sparsity: Sparsity | None = None
