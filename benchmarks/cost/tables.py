"""The tables of the cost benchmark, as Markdown, from the rows that run.py kept."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from edgeprune.cost.calibration import calibrated

Row = dict[str, Any]
Rows = Callable[[str], list[Row]]
CALIBRATING = (2, 3, 4, 5)
"""The plans whose measurements correct a model; they are not judged."""


def lines(rows: Rows) -> Iterator[str]:
    """All tables."""
    for dtype, threads in sorted({(_dtype(row), row["threads"]) for row in rows("predicted")}):
        yield from _errors(rows, dtype, threads)
    yield from _profiles(rows("profiles"))
    yield from _steps(rows("profiles"))
    yield from _checked(rows("checked"))
    yield from _sizes(rows("sizes"))
    yield from _repeated(rows("repeated"))


def _dtype(row: Row) -> str:
    return str(row.get("dtype", "fp32"))


def _errors(rows: Rows, dtype: str, threads: int) -> Iterator[str]:
    asked = (dtype, threads)
    predicted = {
        (r["model"], r["plan"]): r["ms"]
        for r in rows("predicted")
        if (_dtype(r), r["threads"]) == asked
    }
    measured: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows("measured"):
        if (_dtype(row), row["threads"]) == asked and (row["model"], row["plan"]) in predicted:
            measured[row["model"]][row["plan"]] = row
    if not measured:
        return
    yield f"## Prediction of whole programs, {dtype}, {threads} thread(s)"
    yield ""
    some = next(iter(next(iter(measured.values())).values()))
    clocks = sorted({r["clock"] for plans in measured.values() for r in plans.values()})
    yield (
        f"{some['cpu']}, {some['runtime']}, {some['date'][:10]}; clock: {', '.join(clocks)}; load "
        f"{min(_loads(measured)):.1f} to {max(_loads(measured)):.1f}. Error of the prediction in "
        "percent of the measured median. `kernels`: the sum of kernels as it is; `corrected`: by "
        f"a line through the {len(CALIBRATING)} plans that are not judged here."
    )
    yield ""
    yield (
        "| model | plans | ms | kernels: bias | median abs | corrected: median abs | 95 % within "
        "| share within ±5 % | rank |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    everything: list[float] = []
    for model, plans in measured.items():
        raw, after = _of_model(model, plans, predicted)
        everything += after
        judged = [n for n in sorted(plans) if n not in CALIBRATING and n > 1]
        ms = [plans[n]["ms"] for n in judged]
        rank = spearmanr([predicted[model, n] for n in judged], ms)[0]
        yield (
            f"| {model} | {len(judged)} | {min(ms):.2f}–{max(ms):.2f} | {np.median(raw):+.1%} "
            f"| {np.median(np.abs(raw)):.1%} | {np.median(np.abs(after)):.1%} "
            f"| ±{np.percentile(np.abs(after), 95):.1%} | {_within(after, 0.05):.0%} "
            f"| {rank:.4f} |"
        )
    yield (
        f"| all | {len(everything)} | | | | {np.median(np.abs(everything)):.1%} "
        f"| ±{np.percentile(np.abs(everything), 95):.1%} | {_within(everything, 0.05):.0%} | |"
    )
    yield ""


def _of_model(
    model: str, plans: Mapping[int, Row], predicted: Mapping[tuple[str, int], float]
) -> tuple[list[float], list[float]]:
    """Relative errors of the judged plans, without and with correction."""
    pairs = {n: (predicted[model, n], row["ms"]) for n, row in plans.items()}
    taught = calibrated([pairs[n] for n in CALIBRATING if n in pairs])
    judged = [pairs[n] for n in sorted(pairs) if n not in CALIBRATING and n > 1]
    return [p / m - 1 for p, m in judged], [taught.at(p) / m - 1 for p, m in judged]


def _within(errors: Sequence[float], limit: float) -> float:
    return float(np.mean(np.abs(errors) <= limit))


def _loads(measured: Mapping[str, Mapping[int, Row]]) -> list[float]:
    return [row["load"] for plans in measured.values() for row in plans.values()]


def _profiles(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "## Seconds to profile a network"
    yield ""
    yield "| model | dtype | threads | kernels | samples | cold | warm | checks: median, 95 % |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        held = row["held_out"]
        checks = (
            f"{statistics.median(held):.1%}, {held[int(0.95 * (len(held) - 1))]:.1%}"
            if held
            else ""
        )
        cold = f"{row['cold_s']:.1f} s" if row["cold_s"] is not None else ""
        yield (
            f"| {row['model']} | {_dtype(row)} | {row['threads']} | {row['kernels']} "
            f"| {row['samples']} | {cold} | {row['warm_s']:.2f} s | {checks} |"
        )
    yield ""


def _steps(rows: Sequence[Row]) -> Iterator[str]:
    found = {(_dtype(row), row["threads"], *row["tiles"]) for row in rows}
    if not found:
        return
    yield "## Steps found: output channels that are computed at a time"
    yield ""
    yield "| dtype | threads | convolution, linear | depthwise convolution |"
    yield "|---|---|---|---|"
    for dtype, threads, pointwise, depthwise in sorted(found):
        yield f"| {dtype} | {threads} | {pointwise} | {depthwise} |"
    yield ""


def _checked(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "## Programs by rewriting sizes beside the same plan truly lowered"
    yield ""
    yield "| model | numbers that differ | time, true over rewritten (95 %) |"
    yield "|---|---|---|"
    for row in rows:
        low, high = row["interval"]
        times = f"{row['ratio']:.3f} ({low:.3f}–{high:.3f})"
        yield f"| {row['model']} | {row['differences']} | {times} |"
    yield ""


def _sizes(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    names = {0: "full", 1: "telling", 1001: "telling more"}
    yield "## Sizes of truly lowered files, predicted from the kernels alone"
    yield ""
    yield "| model | dtype | widths | .pte bytes | predicted | by way of the full network's size |"
    yield "|---|---|---|---|---|---|"
    last = {(row["model"], _dtype(row), row["plan"]): row for row in rows}
    whole = {key[:2]: r["bytes"] - r["predicted"] for key, r in last.items() if r["plan"] == 0}
    for (model, dtype, plan), row in last.items():
        size, guess = row["bytes"], row["predicted"]
        offset = whole.get((model, dtype))
        corrected = "" if offset is None else f"{guess + offset - size:+,} bytes"
        name = names.get(plan, f"plan {plan}")
        yield f"| {model} | {dtype} | {name} | {size:,} | {guess / size - 1:+.2%} | {corrected} |"
    yield ""


def _repeated(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "## The same program measured again and again"
    yield ""
    yield "| model | times | minutes | medians, ms | spread | the tool says |"
    yield "|---|---|---|---|---|---|"
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        ms = [row["ms"] for row in mine]
        spread = max(ms) / min(ms) - 1
        said = sum(bool(row["warnings"]) for row in mine)
        minutes = (mine[-1]["at"] - mine[0]["at"]) / 60
        yield (
            f"| {model} | {len(ms)} | {minutes:.0f} | {min(ms):.3f}–{max(ms):.3f} | {spread:.1%} "
            f"| {said} of {len(ms)} marked as disturbed |"
        )
    yield ""
