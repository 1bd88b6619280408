"""The charts of a report as shapes in per cent of their frame; the template only draws them.

Positions in per cent, text in pixels: a chart then fits any screen and stays readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeprune.report import show
from edgeprune.report.schema import LatencyJson, LayerJson, MetricJson, ReportJson

Kind = Literal["bar", "bar-after", "spread", "interval", "dot", "ring", "step", "budget"]


@dataclass(frozen=True)
class Mark:
    """One shape on a track, from `at` to `to` (per cent; equal for a point), with its tooltip."""

    kind: Kind
    at: float
    to: float
    title: str


@dataclass(frozen=True)
class Track:
    """One row of a chart: a label, the shapes on the axis, and the value in words."""

    label: str
    value: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis, per cent."""

    at: float
    label: str


@dataclass(frozen=True)
class TrackChart:
    """Rows that share one horizontal axis."""

    title: str
    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[tuple[Kind, str], ...]
    note: str = ""
    estimated: bool = False


@dataclass(frozen=True)
class Pillar:
    """One layer of a skyline: left edge and width, heights before and after, all per cent."""

    left: float
    width: float
    before: float
    after: float
    title: str


@dataclass(frozen=True)
class Skyline:
    """A pillar per layer, in the order of execution."""

    title: str
    pillars: tuple[Pillar, ...]
    ticks: tuple[Tick, ...]
    first: str
    last: str
    note: str = ""
    estimated: bool = False


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Where `value` lies, per cent, kept inside the frame."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 3)

    def ticks(self) -> tuple[Tick, ...]:
        """The round numbers on this axis."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first, last = (
            math.ceil(self.low / self.step - 1e-9),
            math.floor(self.high / self.step + 1e-9),
        )
        values = [index * self.step for index in range(first, last + 1)]
        return tuple(Tick(self.at(value), f"{value:.{digits}f}") for value in values)


def _axis(values: Sequence[float], from_zero: bool, room: float = 0.04) -> _Axis:
    """An axis that holds `values`, with room at the open ends and about four round ticks."""
    low, high = (0.0 if from_zero else min(values)), max(values)
    span = (high - low) or abs(high) or 1.0
    high += room * span
    low -= 0.0 if from_zero else room * span
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return _Axis(low, high, step)


def latency(data: ReportJson) -> TrackChart | None:
    """Both medians as bars from zero, the spread of their samples, and the budget."""
    limit = show.latency_limit_ms(data)
    sides = [("Baseline", data["baseline"]["latency_ms"]), ("Final", data["final"]["latency_ms"])]
    values = [limit]
    for _, side in sides:
        values += [side["median"], side["p90"], *side["interval"]]
    known = [value for value in values if value is not None and value >= 0]
    if data["final"]["latency_ms"]["median"] is None or not any(known):
        return None
    axis = _axis(known, from_zero=True)
    tracks = tuple(
        Track(
            label,
            show.ms(side["median"]),
            _latency_marks(axis, side, "bar" if index == 0 else "bar-after")
            + _budget_mark(axis, limit),
        )
        for index, (label, side) in enumerate(sides)
    )
    legend: list[tuple[Kind, str]] = [
        ("spread", "p10 to p90 of the samples"),
        ("interval", "95 % interval of the median"),
    ]
    if limit is not None:
        legend.append(("budget", f"budget, {show.ms(limit)}"))
    guess = show.estimated(data)
    note = (
        f"Milliseconds of one execution inside the runtime ({show.clock(data)}), median as a bar."
    )
    return TrackChart("Latency", tracks, axis.ticks(), tuple(legend), note, guess)


_ON_TEST, _TRIAL = "test", "try "
"""How stages are named whose metric is on the test set, and trials, after which nothing goes on."""


def metric(data: ReportJson) -> TrackChart | None:
    """The validation metric after each stage that measured it; a trial's change is from what all
    of them started with."""
    found: list[tuple[str, MetricJson, float]] = []
    for stage in data["stages"]:
        value = stage["metric"]
        if value is None or value["value"] is None or stage["name"].startswith(_ON_TEST):
            continue
        if not found or found[0][1]["name"] == value["name"]:
            found.append((stage["name"], value, value["value"]))
    if len(found) < 2:
        return None
    axis = _axis([value for _, _, value in found], from_zero=False)
    tracks = []
    previous: float | None = None
    for name, _, now in found:
        marks = [Mark("dot", axis.at(now), axis.at(now), f"{name}: {show.number(now)}")]
        if previous is not None:
            moved = f"{name}: {show.difference(previous, now)}"
            marks.insert(0, Mark("step", axis.at(previous), axis.at(now), moved))
        tracks.append(Track(name, show.number(now), tuple(marks)))
        if not name.startswith(_TRIAL):
            previous = now
    label = found[0][1]["name"]
    better = "" if found[0][1]["higher_is_better"] else ", lower is better"
    return TrackChart(
        f"{label[:1].upper()}{label[1:]} after each stage",
        tuple(tracks),
        axis.ticks(),
        (("dot", "after the stage"), ("step", "change since the one before")),
        f"On the validation split{better}. The axis does not start at zero.",
    )


def rounds(data: ReportJson) -> TrackChart | None:
    """Each round's promise, its measurement, and the budget it was held against."""
    turns = data["rounds"]
    values = [
        value
        for turn in turns
        for value in (turn["budget_ms"], turn["predicted_ms"], turn["measured_ms"])
        if value is not None
    ]
    if not any(turn["measured_ms"] is not None for turn in turns):
        return None
    guess = show.estimated(data)
    word = "estimated" if guess else "measured"
    axis = _axis(values, from_zero=False, room=0.08)
    tracks = []
    for index, turn in enumerate(turns, 1):
        marks = list(_budget_mark(axis, turn["budget_ms"]))
        predicted, measured = turn["predicted_ms"], turn["measured_ms"]
        if predicted is not None and measured is not None:
            gap = f"{word} − predicted: {show.signed(measured - predicted, 3)} ms"
            marks.append(Mark("step", axis.at(predicted), axis.at(measured), gap))
        if predicted is not None:
            at = axis.at(predicted)
            marks.append(Mark("ring", at, at, f"predicted {show.ms(predicted)}"))
        if measured is not None:
            at = axis.at(measured)
            marks.append(Mark("dot", at, at, f"{word} {show.ms(measured)}"))
        tracks.append(Track(f"Round {index}", show.ms(measured), tuple(marks)))
    legend: list[tuple[Kind, str]] = [("ring", "predicted by the plan"), ("dot", word)]
    if any(turn["budget_ms"] is not None for turn in turns):
        legend.append(("budget", "budget"))
    note = "Milliseconds, before any training. The axis does not start at zero."
    return TrackChart(
        "Predicted and " + word, tuple(tracks), axis.ticks(), tuple(legend), note, guess
    )


def widths(data: ReportJson) -> Skyline | None:
    """Output channels of every layer, before and after."""
    pairs = [(row, float(row["before"][-1]), float(row["after"][-1])) for row in data["layers"]]
    titles = [
        f"{row['name']} ({row['op']}): {before:.0f} → {after:.0f} channels"
        for row, before, after in pairs
    ]
    return _skyline("Width: output channels per layer", pairs, titles, estimated=False)


def costs(data: ReportJson) -> Skyline | None:
    """Cost of every layer that has one, before and after, microseconds."""
    pairs = [
        (row, row["before_us"], row["after_us"])
        for row in data["layers"]
        if row["before_us"] is not None and row["after_us"] is not None
    ]
    titles = [
        f"{row['name']} ({row['op']}): {show.us(before)} → {show.us(after)} µs"
        for row, before, after in pairs
    ]
    return _skyline("Cost: microseconds per layer", pairs, titles, show.estimated(data))


def _skyline(
    title: str,
    pairs: Sequence[tuple[LayerJson, float, float]],
    titles: Sequence[str],
    estimated: bool,
) -> Skyline | None:
    highest = max((max(before, after) for _, before, after in pairs), default=0.0)
    if highest <= 0:
        return None
    axis = _axis([highest], from_zero=True)
    slot = 100 / len(pairs)
    gap = 0.22 if len(pairs) <= 60 else 0.12
    pillars = tuple(
        Pillar(
            round((index + gap / 2) * slot, 3),
            round((1 - gap) * slot, 3),
            axis.at(before),
            axis.at(after),
            text,
        )
        for index, ((_, before, after), text) in enumerate(zip(pairs, titles, strict=True))
    )
    first, last = pairs[0][0]["name"], pairs[-1][0]["name"]
    return Skyline(title, pillars, axis.ticks(), first, last, estimated=estimated)


def _latency_marks(axis: _Axis, side: LatencyJson, bar: Kind) -> tuple[Mark, ...]:
    median = side["median"]
    if median is None:
        return ()
    marks = [Mark(bar, 0.0, axis.at(median), f"median {show.ms(median)} of {side['n']} samples")]
    low, high = side["p10"], side["p90"]
    if low is not None and high is not None:
        text = f"p10 to p90: {show.span_ms([low, high])}"
        marks.append(Mark("spread", axis.at(low), axis.at(high), text))
    ends = [end for end in side["interval"] if end is not None]
    if len(ends) == 2:
        text = f"95 % interval of the median: {show.span_ms(side['interval'])}"
        marks.append(Mark("interval", axis.at(ends[0]), axis.at(ends[1]), text))
    return tuple(marks)


def _budget_mark(axis: _Axis, limit: float | None) -> tuple[Mark, ...]:
    if limit is None:
        return ()
    return (Mark("budget", axis.at(limit), axis.at(limit), f"budget {show.ms(limit)}"),)
