"""`Report` → the dictionary that report.json holds. The only place that knows both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from edgeprune.records import (
    Conditions,
    Layer,
    Measurement,
    Metric,
    OnDevice,
    Parity,
    Report,
    Side,
    Sparsity,
    Stage,
)
from edgeprune.report.schema import (
    SCHEMA,
    ConditionsJson,
    DeviceJson,
    DeviceSideJson,
    LatencyJson,
    LayerJson,
    MetricJson,
    ParityJson,
    ReportJson,
    SideJson,
    SparsityJson,
    StageJson,
)

_NANOSECOND_DIGITS = 6


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON types: str, int, bool, finite float, None, list, dict.

    NaN and infinities become None. Latencies are milliseconds, layer costs microseconds, sizes
    bytes; docs/report-schema.md describes every key. Raises TypeError if the record holds
    something JSON cannot.
    """
    document: ReportJson = {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "model": report.model,
        "target": {
            "name": report.target.name,
            "description": report.target.description,
            "backend": report.target.backend,
            "runner": report.target.runner,
            "dtype": report.target.dtype,
            "threads": report.target.threads,
            "costs": report.target.costs,
            "max_size_bytes": report.target.max_size_bytes,
            "max_memory_bytes": report.target.max_memory_bytes,
            "source": report.target.source,
        },
        "budget": {
            "latency_ms": report.budget.latency_ms,
            "size_bytes": report.budget.size_bytes,
            "speedup": report.budget.speedup,
            "max_drop": report.budget.max_drop,
            "memory_bytes": report.budget.memory_bytes,
            "macs": report.budget.macs,
        },
        "sparsity": _sparsity(report.sparsity),
        "baseline": _side(report.baseline),
        "final": _side(report.final),
        "speedup": report.speedup,
        "speedup_interval": list(report.speedup_interval),
        "parity": _parity(report.parity),
        "stages": [_stage(stage) for stage in report.stages],
        "rounds": [
            {
                "budget_ms": turn.budget_ms,
                "predicted_ms": turn.predicted_ms,
                "measured_ms": turn.measured_ms,
                "size_bytes": turn.size_bytes,
                "verdict": turn.verdict,
                "importance": turn.importance,
                "gap": turn.gap,
                "made": turn.made,
            }
            for turn in report.rounds
        ],
        "layers": [_layer(layer) for layer in report.layers],
        "pinned": [
            {
                "name": pinned.name,
                "size": pinned.size,
                "op": pinned.op,
                "reason": pinned.reason,
                "source": pinned.source,
            }
            for pinned in report.pinned
        ],
        "conditions": _conditions(report.final.latency.conditions),
        "versions": dict(report.versions),
        "artifacts": dict(report.artifacts),
        "notes": list(report.notes),
    }
    plain: dict[str, Any] = _plain(document)
    return plain


def device_json(found: OnDevice) -> DeviceJson:
    """What was measured elsewhere, as a member of a report's `devices`."""
    plain: DeviceJson = _plain(
        {
            "name": found.name,
            "device": found.device,
            "system": found.system,
            "runner": found.runner,
            "baseline": _device_side(found.baseline),
            "final": _device_side(found.final),
            "speedup": found.speedup,
            "speedup_interval": list(found.speedup_interval),
            "verdict": found.verdict,
            "reasons": list(found.reasons),
            "parity": _parity(found.parity),
            "conditions": _conditions(found.final.conditions),
        }
    )
    return plain


def _device_side(measurement: Measurement) -> DeviceSideJson:
    return {
        "latency_ms": _latency(measurement),
        "peak_memory_bytes": measurement.peak_rss_bytes,
    }


def _parity(parity: Parity | None) -> ParityJson | None:
    if parity is None:
        return None
    return {
        "max_abs": parity.max_abs,
        "max_rel": parity.max_rel,
        "samples": parity.samples,
        "top1_agreement": parity.top1_agreement,
    }


def _sparsity(sparsity: Sparsity | None) -> SparsityJson | None:
    if sparsity is None:
        return None
    return {
        "pattern": sparsity.pattern,
        "share": sparsity.share,
        "scope": sparsity.scope,
        "seed": sparsity.seed,
    }


def _side(side: Side) -> SideJson:
    return {
        "latency_ms": _latency(side.latency),
        "size_bytes": side.size_bytes,
        "params": side.params,
        "macs": side.macs,
        "peak_memory_bytes": side.latency.peak_rss_bytes,
        "planned_bytes": side.planned_bytes,
        "compressed_bytes": side.compressed_bytes,
        "zeros": side.zeros,
        "metric": _metric(side.metric),
        "conditions": _conditions(side.latency.conditions),
    }


def _latency(measurement: Measurement) -> LatencyJson:
    samples = measurement.cpu_ms if measurement.clock == "cpu" else measurement.samples_ms
    return {
        "median": measurement.median_ms,
        "p10": measurement.p10_ms,
        "p90": measurement.p90_ms,
        "n": len(samples),
        "interval": list(measurement.interval_ms),
        "processes": measurement.processes,
        "clock": measurement.clock,
        "estimated": measurement.estimated,
        "warnings": list(measurement.warnings),
        "samples": [round(sample, _NANOSECOND_DIGITS) for sample in samples],
    }


def _metric(metric: Metric | None) -> MetricJson | None:
    if metric is None:
        return None
    return {
        "name": metric.name,
        "value": metric.value,
        "higher_is_better": metric.higher_is_better,
    }


def _stage(stage: Stage) -> StageJson:
    return {
        "name": stage.name,
        "seconds": stage.seconds,
        "metric": _metric(stage.metric),
        "note": stage.note,
    }


def _layer(layer: Layer) -> LayerJson:
    return {
        "name": layer.name,
        "op": layer.op,
        "before": list(layer.before),
        "after": list(layer.after),
        "before_us": layer.before_us,
        "after_us": layer.after_us,
    }


def _conditions(conditions: Conditions) -> ConditionsJson:
    return {
        "device": conditions.device,
        "cpu": conditions.cpu,
        "runtime": conditions.runtime,
        "backend": conditions.backend,
        "dtype": conditions.dtype,
        "threads": conditions.threads,
        "governor": conditions.governor,
        "frequency_mhz": conditions.frequency_mhz,
        "temperature_c": conditions.temperature_c,
        "load": conditions.load,
        "date": conditions.date,
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):  # numpy's scalars too
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise TypeError(f"a report cannot hold a {type(value).__name__}: {value!r}")
