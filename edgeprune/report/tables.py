"""The tables of a report, as text in cells; the Markdown and the HTML print the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeprune.report import show
from edgeprune.report.schema import LayerJson, ReportJson, SideJson
from edgeprune.units import show_bytes, show_count, show_seconds

_FOLD_ABOVE_ROWS = 24
_FEW_ZEROS = 0.0005


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether it holds numbers (right-aligned)."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell's text; `bar` is (before, after) as fractions of the column's longest, for HTML."""

    text: str
    bar: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table with its heading. `estimated` says that its numbers were not measured."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    foot: tuple[Cell, ...] = ()
    estimated: bool = False

    @property
    def fold(self) -> bool:
        """Whether the table is long enough to start out folded."""
        return len(self.rows) > _FOLD_ABOVE_ROWS


def summary(data: ReportJson) -> Table:
    """Everything that was counted or timed, before and after.

    Peak memory is that of the process that runs the program, planned memory the part of it that
    the program's own activations take.
    """
    before, after = _sides(data)
    guess = show.estimated(data)
    word = " (estimated)" if guess else ""
    intervals = [show.span_ms(side["latency_ms"]["interval"]) for side in (before, after)]
    rows = [
        _latency_row(data, f"latency, median{word}", "median"),
        _row(f"95 % interval{word}", *intervals, ""),
        _latency_row(data, f"latency, p90{word}", "p90"),
        _row(f"speedup{word}", "", show.ratio(data["speedup"]), show.speedup_interval(data)),
        _row("samples", str(before["latency_ms"]["n"]), str(after["latency_ms"]["n"]), ""),
        _row(
            ".pte size",
            show_bytes(before["size_bytes"]),
            show_bytes(after["size_bytes"]),
            show.change(before["size_bytes"], after["size_bytes"]),
        ),
        _compressed_row(before, after),
        _count_row("parameters", before["params"], after["params"]),
        *_zeros_rows(before, after),
        _count_row("MACs", before["macs"], after["macs"]),
        _size_row("peak memory", "peak_memory_bytes", before, after),
        _size_row("planned memory", "planned_bytes", before, after),
        _row(
            _metric_label(data),
            show.metric(before["metric"]),
            show.metric(after["metric"]),
            show.metric_change(before["metric"], after["metric"]),
        ),
    ]
    columns = _columns("", "#baseline", "#final", "#change")
    return Table("Before and after", columns, tuple(rows), estimated=guess)


def _zeros_rows(before: SideJson, after: SideJson) -> tuple[tuple[Cell, ...], ...]:
    """Where somebody made any: the few that training leaves are no news."""
    shares = before.get("zeros"), after.get("zeros")
    if max(share or 0.0 for share in shares) < _FEW_ZEROS:
        return ()
    return (_row("zeros among them", *(show.share(share) for share in shares), ""),)


def layers(data: ReportJson) -> Table:
    """Every weight-carrying layer: widths as in → out, and cost in microseconds."""
    rows = data["layers"]
    guess = show.estimated(data)
    word = ", estimated" if guess else ""
    widest = max((max(row["before"][-1:] + row["after"][-1:]) for row in rows), default=1)
    costs = [cost for row in rows for cost in (row["before_us"], row["after_us"]) if cost]
    dearest = max(costs, default=1.0)
    columns = _columns(
        "layer",
        "op",
        "#in → out, before",
        "#in → out, after",
        f"#before, µs{word}",
        f"#after, µs{word}",
    )
    body = tuple(_layer_row(row, widest, dearest) for row in rows)
    return Table("Layers", columns, body, foot=_layer_total(rows), estimated=guess)


def stages(data: ReportJson) -> Table:
    """What was done, how long it took, and the validation metric after it."""
    rows = tuple(
        _row(
            stage["name"],
            show.UNKNOWN if stage["seconds"] is None else show_seconds(stage["seconds"]),
            show.metric(stage["metric"]),
            stage["note"],
        )
        for stage in data["stages"]
    )
    names = {stage["metric"]["name"] for stage in data["stages"] if stage["metric"] is not None}
    title = f"{' / '.join(sorted(names)) or 'metric'} (validation)"
    total = sum(stage["seconds"] or 0.0 for stage in data["stages"])
    foot = _row("total", show_seconds(total), "", "") if len(rows) > 1 else ()
    return Table("Stages", _columns("stage", "#time", f"#{title}", "note"), rows, foot=foot)


def rounds(data: ReportJson) -> Table:
    """The closed loop: what each plan promised and what its program then took."""
    guess = show.estimated(data)
    columns = _columns(
        "round",
        "#budget",
        "#plan, predicted",
        f"#program, {'estimated' if guess else 'measured'}",
        "#.pte size",
        "#importance kept",
        "program",
        "verdict",
    )
    rows = tuple(
        _row(
            str(index),
            show.ms(turn["budget_ms"]),
            show.ms(turn["predicted_ms"]),
            show.ms(turn["measured_ms"]),
            show.size(turn["size_bytes"]),
            show.share(turn.get("importance")),
            turn.get("made", "lowered"),
            turn["verdict"],
        )
        for index, turn in enumerate(data["rounds"], 1)
    )
    return Table("Rounds", columns, rows, estimated=guess)


def conditions(data: ReportJson) -> Table:
    """What both programs were timed under; a value that is not the same for both is given twice."""
    sides = [side["conditions"] for side in _sides(data)]
    processes = [str(side["latency_ms"]["processes"]) for side in _sides(data)]
    rows = (
        _shared("device", [side["device"] for side in sides]),
        _shared("CPU", [side["cpu"] for side in sides]),
        _shared("runtime", [side["runtime"] for side in sides]),
        _shared("backend", [side["backend"] for side in sides]),
        _shared("data type", [side["dtype"] for side in sides]),
        _shared("threads", [str(side["threads"]) for side in sides]),
        _shared("processes", processes),
        _row("latency is", show.clock(data)),
        _shared("governor", [side["governor"] for side in sides]),
        _shared("frequency", [show.unit(side["frequency_mhz"], "MHz", 0) for side in sides]),
        _shared("temperature", [show.unit(side["temperature_c"], "°C", 1) for side in sides]),
        _shared("load average", [show.unit(side["load"], "", 2) for side in sides]),
        _shared("date", [show.date(side["date"]) for side in sides]),
    )
    guess = show.estimated(data)
    columns = _columns("", "estimated under" if guess else "measured under")
    return Table("Conditions", columns, rows, estimated=guess)


def parity(data: ReportJson) -> Table:
    """How far the program's outputs are from the eager model's."""
    value = data["parity"]
    if value is None:
        alone = _row("not run here", "its inputs and outputs have the network's shapes")
        return Table("Parity of eager and .pte", _columns("", "checked"), (alone,))
    agreement = value["top1_agreement"]
    rows = (
        _row("largest difference", show.small(value["max_abs"])),
        _row("relative to the largest output", show.small(value["max_rel"])),
        _row("same top-1", show.UNKNOWN if agreement is None else f"{100 * agreement:.2f} %"),
        _row("inputs compared", str(value["samples"])),
    )
    return Table("Parity of eager and .pte", _columns("", "#value"), rows)


def pinned(data: ReportJson) -> Table:
    """Channels that could not be pruned, and why."""
    rows = tuple(
        _row(pin["name"], str(pin["size"]), pin["op"], pin["reason"], pin["source"])
        for pin in data["pinned"]
    )
    return Table("Pinned channels", _columns("group", "#channels", "op", "why", "where"), rows)


def artifacts(data: ReportJson) -> Table:
    """The files of the run."""
    rows = tuple(_row(name, path) for name, path in data["artifacts"].items())
    return Table("Files", _columns("what", "file"), rows)


def versions(data: ReportJson) -> Table:
    """The software that made them."""
    rows = tuple(_row(name, version) for name, version in data["versions"].items())
    return Table("Versions", _columns("package", "version"), rows)


_NO_BAR = (0.0, 0.0)  # keeps the numbers of a column with bars under each other


def _sides(data: ReportJson) -> tuple[SideJson, SideJson]:
    return data["baseline"], data["final"]


def _columns(*titles: str) -> tuple[Column, ...]:
    """Columns by title; a leading # marks one of numbers."""
    return tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in titles)


def _row(*texts: str) -> tuple[Cell, ...]:
    return tuple(Cell(text) for text in texts)


def _shared(label: str, texts: Sequence[str | None]) -> tuple[Cell, ...]:
    before, after = (text or show.UNKNOWN for text in texts)
    return _row(label, after if before == after else f"{before} (baseline), {after} (final)")


def _latency_row(data: ReportJson, label: str, key: str) -> tuple[Cell, ...]:
    before, after = (side["latency_ms"][key] for side in _sides(data))  # type: ignore[literal-required]
    return _row(label, show.ms(before), show.ms(after), show.change(before, after))


def _count_row(label: str, before: int, after: int) -> tuple[Cell, ...]:
    return _row(label, show_count(before), show_count(after), show.change(before, after))


def _size_row(label: str, key: str, before: SideJson, after: SideJson) -> tuple[Cell, ...]:
    values: tuple[int, int] = (before[key], after[key])  # type: ignore[literal-required]
    texts = [show.size(value) for value in values]
    return _row(label, *texts, show.change(*values) if all(values) else show.UNKNOWN)


def _compressed_row(before: SideJson, after: SideJson) -> tuple[Cell, ...]:
    sizes = before.get("compressed_bytes"), after.get("compressed_bytes")
    return _row(".pte size, compressed", *map(show.size, sizes), show.change(*sizes))


def _metric_label(data: ReportJson) -> str:
    found = data["final"]["metric"] or data["baseline"]["metric"]
    if found is None:
        return "metric"
    return f"{found['name']} (test{'' if found['higher_is_better'] else '; lower is better'})"


def _layer_row(row: LayerJson, widest: int, dearest: float) -> tuple[Cell, ...]:
    cost = _NO_BAR
    if row["before_us"] is not None and row["after_us"] is not None:
        cost = (row["before_us"] / dearest, row["after_us"] / dearest)
    width = (_out(row["before"]) / widest, _out(row["after"]) / widest)
    return (
        Cell(row["name"]),
        Cell(row["op"]),
        Cell(_arrow(row["before"])),
        Cell(_arrow(row["after"]), width),
        Cell(show.us(row["before_us"])),
        Cell(show.us(row["after_us"]), cost),
    )


def _layer_total(rows: list[LayerJson]) -> tuple[Cell, ...]:
    timed = [row for row in rows if row["before_us"] is not None and row["after_us"] is not None]
    if not timed or len(timed) < len(rows):
        return ()  # a sum with holes in it would be compared with one without
    sums = [_sum(row["before_us"] for row in timed), _sum(row["after_us"] for row in timed)]
    before, after = (show.us(total) for total in sums)
    return (*_row("sum", "", "", "", before), Cell(after, _NO_BAR))


def _sum(values: Iterable[float | None]) -> float:
    return sum(value for value in values if value is not None)


def _out(width: list[int]) -> int:
    return width[-1] if width else 0


def _arrow(width: list[int]) -> str:
    return " → ".join(str(end) for end in width) or show.UNKNOWN
