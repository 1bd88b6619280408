"""What report.json holds, as types; docs/report-schema.md says the same in words.

A key may be added under the same version; a key that goes, or changes its meaning, raises it.
Every float may be null: that is how JSON says "not a number" or "not known".
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict  # pydantic wants this one before Python 3.12

from edgeprune.records import Made, Verdict

FAMILY = "edgeprune-report"
VERSION = 1
SCHEMA = f"{FAMILY}/{VERSION}"

Finite = Annotated[float, Field(allow_inf_nan=False)] | None
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Width = Annotated[list[int], Field(min_length=2, max_length=2)]


class MetricJson(TypedDict):
    name: str
    value: Finite
    higher_is_better: bool


class LatencyJson(TypedDict):
    median: Finite
    p10: Finite
    p90: Finite
    n: int
    interval: Interval
    processes: int
    estimated: bool
    clock: Literal["wall", "cpu"]
    warnings: list[str]
    samples: list[Finite]


class ConditionsJson(TypedDict):
    device: str
    cpu: str
    runtime: str
    backend: str
    dtype: str
    threads: int
    governor: str | None
    frequency_mhz: Finite
    temperature_c: Finite
    load: Finite
    date: str


class SideJson(TypedDict):
    latency_ms: LatencyJson
    size_bytes: int
    params: int
    macs: int
    peak_memory_bytes: int
    planned_bytes: int
    compressed_bytes: NotRequired[int | None]  # reports of 0.1 have neither this nor the next
    zeros: NotRequired[Finite]
    metric: MetricJson | None
    conditions: ConditionsJson


class TargetJson(TypedDict):
    name: str
    description: str
    backend: str
    runner: str
    dtype: str
    threads: int
    costs: Literal["measured", "estimated"]
    max_size_bytes: int | None
    max_memory_bytes: int | None
    source: str


class BudgetJson(TypedDict):
    latency_ms: Finite
    size_bytes: int | None
    speedup: Finite
    max_drop: Finite
    memory_bytes: NotRequired[int | None]
    macs: NotRequired[int | None]


class SparsityJson(TypedDict):
    pattern: str
    share: Finite
    scope: Literal["global", "layer"]
    seed: int


class ParityJson(TypedDict):
    max_abs: Finite
    max_rel: Finite
    samples: int
    top1_agreement: Finite


class StageJson(TypedDict):
    name: str
    seconds: Finite
    metric: MetricJson | None
    note: str


class RoundJson(TypedDict):
    budget_ms: Finite
    predicted_ms: Finite
    measured_ms: Finite
    size_bytes: int
    verdict: Verdict
    importance: NotRequired[Finite]
    gap: NotRequired[Finite]
    made: NotRequired[Made]


class LayerJson(TypedDict):
    name: str
    op: str
    before: Width
    after: Width
    before_us: Finite
    after_us: Finite


class PinnedJson(TypedDict):
    name: str
    size: int
    op: str
    reason: str
    source: str


class DeviceSideJson(TypedDict):
    latency_ms: LatencyJson
    peak_memory_bytes: int


class DeviceJson(TypedDict):
    name: str
    device: str
    system: str
    runner: str
    baseline: DeviceSideJson
    final: DeviceSideJson
    speedup: Finite
    speedup_interval: Interval
    verdict: Verdict | None
    reasons: list[str]
    parity: ParityJson | None
    conditions: ConditionsJson


class ReportJson(TypedDict):
    schema: str
    verdict: Verdict
    reasons: list[str]
    model: str
    target: TargetJson
    budget: BudgetJson
    sparsity: NotRequired[SparsityJson | None]
    baseline: SideJson
    final: SideJson
    speedup: Finite
    speedup_interval: Interval
    parity: ParityJson | None
    stages: list[StageJson]
    rounds: list[RoundJson]
    layers: list[LayerJson]
    pinned: list[PinnedJson]
    conditions: ConditionsJson
    versions: dict[str, str]
    artifacts: dict[str, str]
    notes: list[str]
    devices: NotRequired[list[DeviceJson]]


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(ReportJson)


def problems(data: object) -> list[str]:
    """Every way in which `data` is not a version 1 report, each as "path: what is wrong"."""
    try:
        # strict: "3" is not 3 in a record of measurements
        _adapter().validate_python(data, strict=True)
    except ValidationError as error:
        return [
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}"
            for item in error.errors()
        ]
    return []
