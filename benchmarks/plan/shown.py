"""Rows of benchmarks/plan as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]


def shown(stage: str, rows: list[Row]) -> Iterator[str]:
    """A table of one stage, and what it comes to."""
    yield f"\n### {stage}\n"
    yield from _STAGES[stage](rows)


def _table(titles: list[str], lines: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(titles) + " |"
    yield "|" + " --- |" * len(titles)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def _share(value: float | None, digits: int = 2) -> str:
    return "none" if value is None else f"{100 * value:.{digits}f} %"


def _front(rows: list[Row]) -> Iterator[str]:
    titles = ["model", "scores", "speed-up", "ours", "NetAdapt", "one-sided", "uniform"]
    titles += ["gap", "seconds (solving; CPU)", "latency used", "costs", "load"]
    lines = [
        [
            row["model"],
            row["scores"],
            f"{row['speedup']:g}x",
            *(_share(row[rule]) for rule in ("ours", "netadapt", "one-sided", "uniform")),
            _share(row["gap"], 3),
            f"{row['seconds']} ({row['solving']}; {row.get('cpu', 'not taken')})",
            _share(row["used"], 1),
            row.get("costs", "measured"),
            f"{row['load']:.0f}",
        ]
        for row in rows
    ]
    yield from _table(titles, lines)
    good = sum(row["gap"] <= 0.01 and row["seconds"] <= 10 for row in rows)
    cpu = sum(row["gap"] <= 0.01 and row.get("cpu", row["seconds"]) <= 10 for row in rows)
    yield (
        f"\ngap at most 1 % within 10 s, tables included: {good} of {len(rows)}; "
        f"within 10 s of CPU time: {cpu}"
    )


def _large(rows: list[Row]) -> Iterator[str]:
    titles = [
        "model",
        "groups",
        "kernels",
        "speed-up",
        "kept",
        "gap",
        "seconds (solving; CPU)",
        "how",
    ]
    lines = [
        [
            row["model"],
            str(row["groups"]),
            str(row["kernels"]),
            f"{row['speedup']:g}x",
            _share(row["ours"]),
            _share(row["gap"], 3),
            f"{row['seconds']} ({row['solving']}; {row.get('cpu', 'not taken')})",
            "; ".join([row["how"], *row["notes"]]),
        ]
        for row in rows
    ]
    yield from _table(titles, lines)


def _solvers(rows: list[Row]) -> Iterator[str]:
    ways = ("prices", "highs", "cp-sat")
    titles = ["model", "speed-up", "columns"]
    titles += [f"{way}: kept, gap, seconds" for way in ways]
    lines = []
    for row in rows:
        line = [row["model"], f"{row['speedup']:g}x", str(row["columns"])]
        for way in ways:
            kept, gap, seconds = row.get(way, [None, None, None])
            told = f"{_share(kept, 3)}, {_share(gap, 3)}, {seconds}"
            line.append(told if way in row else "not installed")
        lines.append(line)
    yield from _table(titles, lines)


def _latency(rows: list[Row]) -> Iterator[str]:
    yield (
        "Share of the budget that the final, truly lowered program takes, measured beside the "
        "baseline after the loop was done (95 % interval). Rounds: `r` a resized program, `L` a "
        "lowered one, each with its share; `seconds` are those of the loop, of which `lowering`.\n"
    )
    yield from _measured(rows, _speedup_round)


def _size(rows: list[Row]) -> Iterator[str]:
    yield "Share of the budget that the final .pte takes, in bytes.\n"
    yield from _measured(rows, _size_round)


def _measured(rows: list[Row], turn: Callable[[Row, list[float]], float]) -> Iterator[str]:
    titles = ["model", "ratio", "used", "verdict", "rounds", "importance", "seconds", "lowering"]
    lines = [
        [
            row["model"],
            f"{row['ratio']:g}x",
            _used(row),
            row.get("verdict", row.get("error", "")),
            " ".join(
                f"{'r' if made == 'resized' else 'L'}{100 * turn(row, [ms, size]):.1f}"
                for _, ms, size, made, _ in row.get("rounds", [])
            ),
            _share(row.get("importance")),
            str(row.get("seconds", "")),
            f"{sum(row.get('lowering', [])):.0f}",
        ]
        for row in rows
    ]
    yield from _table(
        [*titles, "load"],
        [[*x, f"{row.get('load', 0):.0f}"] for x, row in zip(lines, rows, strict=True)],
    )
    inside = [row for row in rows if 0.95 <= row.get("used", 0) <= 1]
    sure = sum(row.get("verdict") == "met" for row in inside)
    unsure = sum(row.get("verdict") == "undecidable" for row in rows)
    yield (
        f"\nbetween 95 % and 100 %: {len(inside)} of {len(rows)}, {sure} of them decided as met at "
        f"95 %; undecidable with this noise: {unsure} of {len(rows)}"
    )


def _used(row: Row) -> str:
    interval = row.get("interval")
    if interval is None:
        return _share(row.get("used"), 2)
    low, high = (f"{100 * share:.1f}" for share in interval)
    return f"{_share(row['used'], 1)} ({low} to {high})"


def _speedup_round(row: Row, turn: list[float]) -> float:
    return turn[0] / (row["base_ms"] / row["ratio"])


def _size_round(row: Row, turn: list[float]) -> float:
    return turn[1] / (row["base_bytes"] / row["ratio"])


def _blocks(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        yield (
            f"kept with {len(row['dropped'])} of {row['blocks']} blocks dropped: "
            f"{_share(row['with'])}; without dropping: {_share(row['without'])} "
            f"(gaps {_share(row['gap'][0], 3)} and {_share(row['gap'][1], 3)})"
        )


_STAGES: dict[str, Callable[[list[Row]], Iterator[str]]] = {
    "front": _front,
    "large": _large,
    "solvers": _solvers,
    "latency": _latency,
    "size": _size,
    "blocks": _blocks,
}
