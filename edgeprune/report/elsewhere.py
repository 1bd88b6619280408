"""What was measured on other devices, drawn with the charts and tables of the run itself."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from edgeprune.report import charts, show, tables
from edgeprune.report.charts import TrackChart
from edgeprune.report.schema import DeviceJson, ReportJson
from edgeprune.report.tables import Cell, Table

_VERDICTS = {"met": "met", "missed": "missed", "undecidable": "undecidable", None: show.UNKNOWN}
_TAKEN = ("latency, median", "95 % interval", "latency, p90", "speedup", "samples", "peak memory")


def as_seen_on(data: ReportJson, device: DeviceJson) -> ReportJson:
    """The report as if the run itself had been measured on `device`."""
    sides = {
        name: {**data[name], **device[name], "conditions": device["conditions"]}
        for name in ("baseline", "final")
    }
    return cast(
        ReportJson,
        {
            **data,
            **sides,
            "speedup": device["speedup"],
            "speedup_interval": device["speedup_interval"],
            "conditions": device["conditions"],
            "target": {**data["target"], "name": device["name"], "costs": "measured"},
        },
    )


def drawings(data: ReportJson) -> tuple[TrackChart, ...]:
    """Both latencies on every device."""
    found = []
    for device in data.get("devices", []):
        chart = charts.latency(as_seen_on(data, device))
        if chart is not None:
            found.append(replace(chart, title=f"Latency on {title(device)}"))
    return tuple(found)


def listings(data: ReportJson) -> tuple[Table, ...]:
    """What was measured on every device, and under which conditions."""
    found: list[Table] = []
    for device in data.get("devices", []):
        found.append(summary(data, device))
        name = title(device)
        conditions = tables.conditions(as_seen_on(data, device))
        told = (Cell("system"), Cell(device["system"] or show.UNKNOWN))
        rows = (conditions.rows[0], told, *conditions.rows[1:])
        found.append(replace(conditions, title=f"Conditions on {name}", rows=rows))
    return tuple(found)


def summary(data: ReportJson, device: DeviceJson) -> Table:
    """Both programs on a device, and what that says of the budget."""
    whole = tables.summary(as_seen_on(data, device))
    rows = tuple(row for row in whole.rows if row[0].text in _TAKEN)
    return replace(whole, title=title(device), rows=(*rows, *_verdict(device)))


def title(device: DeviceJson) -> str:
    """The target, and what the device calls itself where that says more."""
    called = device["device"]
    return device["name"] if called in ("", device["name"]) else f"{device['name']} ({called})"


def notes(data: ReportJson) -> tuple[str, ...]:
    """What a reader must know of each device's numbers."""
    found = []
    for device in data.get("devices", []):
        found += [f"{title(device)}: {reason}" for reason in device["reasons"]]
        warnings = (
            warning
            for side in (device["baseline"], device["final"])
            for warning in side["latency_ms"]["warnings"]
        )
        found += [f"{title(device)}: {warning}" for warning in dict.fromkeys(warnings)]
    return tuple(found)


def _verdict(device: DeviceJson) -> tuple[tuple[Cell, ...], ...]:
    rows = [("budget there", "", _VERDICTS[device["verdict"]], "")]
    parity = device["parity"]
    if parity is not None:
        same = parity["top1_agreement"]
        top1 = "" if same is None else f"same top-1: {100 * same:.2f} %"
        rows.append(("outputs off by", "", show.small(parity["max_rel"]), top1))
    return tuple(tuple(Cell(text) for text in row) for row in rows)
