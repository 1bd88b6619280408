"""The HTML and Markdown pages: well-formed, self-contained, escaped, honest about estimates."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from edgeprune.records import Budget, Layer, Measurement, Report, Side
from edgeprune.report import charts, show, tables, to_html, to_json, to_markdown

VOID = {"meta", "link", "br", "hr", "img", "input"}
DRAWN = {"rect", "line", "circle"}
HOSTILE = '<script>alert("1")</script>|`*_x_*`\n# not a heading & <b>'


class Balanced(HTMLParser):
    """Keeps a stack of open tags; whatever closes another's tag is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN, f"<{tag}/> means <{tag}> in HTML"
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def with_layers(report: Report, *layers: Layer) -> Report:
    return replace(report, layers=layers)


def without_metrics(report: Report) -> Report:
    return replace(
        report,
        baseline=replace(report.baseline, metric=None),
        final=replace(report.final, metric=None),
        stages=tuple(replace(stage, metric=None) for stage in report.stages),
        budget=replace(report.budget, max_drop=None),
    )


def bare(report: Report) -> Report:
    """The least that a report can hold."""
    return replace(
        without_metrics(report),
        reasons=(),
        budget=Budget(),
        stages=(),
        rounds=(),
        layers=(),
        pinned=(),
        artifacts={},
        versions={},
        notes=(),
    )


def unmeasured(report: Report) -> Report:
    """Every float that can be missing is."""
    nan = float("nan")

    def lose(side: Side) -> Side:
        latency: Measurement = replace(
            side.latency,
            median_ms=nan,
            p10_ms=nan,
            p90_ms=nan,
            interval_ms=(nan, nan),
            samples_ms=(),
        )
        return replace(side, latency=latency)

    return replace(
        report,
        baseline=lose(report.baseline),
        final=lose(report.final),
        speedup=nan,
        speedup_interval=(nan, nan),
        parity=replace(report.parity, max_abs=nan, max_rel=nan, top1_agreement=None),
        rounds=tuple(
            replace(turn, budget_ms=None, predicted_ms=None, measured_ms=None)
            for turn in report.rounds
        ),
        layers=tuple(replace(layer, before_us=None, after_us=nan) for layer in report.layers),
    )


SHAPES = [lambda r: r, bare, without_metrics, unmeasured]


@pytest.mark.parametrize("change", SHAPES)
def test_html_is_balanced_and_asks_for_nothing_outside(report: Report, change: Any) -> None:
    html = to_html(to_json(change(report)))
    page = parsed(html)
    assert not re.search(r"https?:|//\w|url\(|@import", html)
    for tag, attributes in page.seen:
        assert tag not in {"script", "iframe", "img", "object"}
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"
        assert not any(name.startswith("on") for name in attributes)


@pytest.mark.parametrize("change", SHAPES)
def test_nothing_unknown_is_printed_as_nan_or_none(report: Report, change: Any) -> None:
    data = to_json(change(report))
    for text in (" ".join(parsed(to_html(data)).text), to_markdown(data)):
        assert not re.search(r"\b(nan|None|inf|null|Undefined)\b", text)


def test_positions_in_the_charts_stay_in_their_frame(long: Report) -> None:
    page = parsed(to_html(to_json(long)))
    shares = [
        float(value[:-1])
        for _, attributes in page.seen
        for value in attributes.values()
        if value is not None and re.fullmatch(r"-?[\d.]+%", value)
    ]
    assert len(shares) > 4 * 160
    assert all(0 <= share <= 100 for share in shares)


def test_a_layer_that_became_slower_still_shows_what_it_was(report: Report) -> None:
    slower = Layer("conv1", "conv2d", (3, 8), (3, 4), 1.0, 2.0)
    assert '<line class="was"' in to_html(to_json(with_layers(report, slower)))
    assert '<line class="was"' not in to_html(to_json(report))


def test_hostile_names_are_text(report: Report) -> None:
    layer = Layer(HOSTILE, HOSTILE, (3, 8), (3, 4), 2.0, 1.0)
    pinned = tuple(
        replace(pin, name=HOSTILE, reason=HOSTILE, source=HOSTILE) for pin in report.pinned
    )
    hostile = replace(
        report,
        model=HOSTILE,
        target=replace(report.target, name=HOSTILE),
        reasons=(HOSTILE,),
        layers=(layer,),
        pinned=pinned,
        stages=tuple(replace(stage, name=HOSTILE, note=HOSTILE) for stage in report.stages),
        artifacts={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
    )
    data = to_json(hostile)
    html = to_html(data)
    page = parsed(html)
    assert "<script" not in html
    assert "b" not in {tag for tag, _ in page.seen}
    assert HOSTILE in page.text  # it is shown, whole
    assert "<script" not in to_markdown(data)
    assert "\n# not" not in to_markdown(data)


def test_verdict_and_headline_are_in_both(report: Report) -> None:
    data = to_json(report)
    for text in (" ".join(parsed(to_html(data)).text), to_markdown(data)):
        assert "Budget met" in text
        assert "35.0 ms" in text
        assert "16.0 ms" in text
        assert "2.19× as fast" in text
        assert "46.80 MB" in text
        assert "97.50" in text
        assert "speedup ≥ 2×" in text


def markdown_tables(text: str) -> list[list[str]]:
    """Runs of lines that begin with a bar."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize("change", SHAPES)
def test_markdown_tables_are_rectangles(report: Report, change: Any) -> None:
    text = to_markdown(to_json(change(report)))
    found = markdown_tables(text)
    assert found
    for table in found:
        assert re.fullmatch(r"\|( :?-+:? \|)+", table[1])
        assert len({cells(line) for line in table}) == 1
        assert len(table) > 2
    assert "\n\n\n" not in text


def test_markdown_bars_in_names_do_not_make_columns(report: Report) -> None:
    layer = Layer("a|b\\|c", "conv2d", (3, 8), (3, 4), 2.0, 1.0)
    text = to_markdown(to_json(with_layers(report, layer)))
    (line,) = (line for line in text.splitlines() if "conv2d" in line)
    assert line.startswith("| a\\|b\\\\\\|c | conv2d |")


def test_long_tables_are_folded_and_complete(long: Report) -> None:
    data = to_json(long)
    html, text = to_html(data), to_markdown(data)
    assert "<details>" in html
    assert "<details><summary>160 rows</summary>\n\n|" in text
    assert text.count("block") == 160
    assert " ".join(parsed(html).text).count("block159.conv") >= 2  # the table, the chart's tooltip


TIMED = [tables.summary, tables.layers, tables.rounds, tables.conditions]


@pytest.mark.parametrize("make", TIMED)
def test_every_table_with_estimates_says_so(report: Report, estimated: Report, make: Any) -> None:
    def words(one: Report) -> str:
        table = make(to_json(one))
        rows = " ".join(cell.text for row in table.rows for cell in row)
        return " ".join(column.title for column in table.columns) + rows

    assert make(to_json(estimated)).estimated
    assert "estimated" in words(estimated)
    assert "estimated" not in words(report)


def test_estimates_are_marked_on_the_pages(report: Report, estimated: Report) -> None:
    html, text = to_html(to_json(estimated)), to_markdown(to_json(estimated))
    assert "Budget met (estimated)" in html
    assert text.startswith("# Budget met (estimated)")
    captions = re.findall(r"<(caption|h3)>(.*?)</\1>", html)
    for title in ("Before and after", "Layers", "Rounds", "Conditions", "Latency", "Cost"):
        marked = [words for _, words in captions if words.startswith(title)]
        assert marked, title
        assert all("estimated" in words for words in marked), title
    for heading in ("Before and after", "Layers", "Rounds", "Conditions"):
        assert f"### {heading} (estimated)" in text
    assert "estimated" not in to_html(to_json(report))
    assert "estimated" not in to_markdown(to_json(report))


def test_an_estimating_target_is_enough(report: Report) -> None:
    target = replace(report.target, costs="estimated")
    assert "Budget met (estimated)" in to_markdown(to_json(replace(report, target=target)))


def test_budget_line_is_the_tightest_limit(report: Report) -> None:
    data: Any = to_json(report)
    assert show.latency_limit_ms(data) == 17.5
    data["budget"]["latency_ms"] = 16.5
    assert show.latency_limit_ms(data) == 16.5
    data["budget"].update(latency_ms=None, speedup=None)
    assert show.latency_limit_ms(data) is None


def test_the_sum_of_costs_has_no_holes(report: Report) -> None:
    data: Any = to_json(report)
    assert [cell.text for cell in tables.layers(data).foot][-2:] == ["4,112.0", "2,608.5"]
    data["layers"][0]["after_us"] = None
    assert tables.layers(data).foot == ()


def test_condition_that_changed_between_the_two_shows_both(report: Report) -> None:
    data: Any = to_json(report)
    data["baseline"]["conditions"]["load"] = 1.5
    rows = {row[0].text: row[1].text for row in tables.conditions(data).rows}
    assert rows["load average"] == "1.50 (baseline), 0.25 (final)"
    assert rows["threads"] == "1"
    assert rows["governor"] == show.UNKNOWN
    assert rows["date"] == "2025-03-14 10:22 UTC"


def test_stages_of_another_metric_are_not_on_the_axis(report: Report) -> None:
    data: Any = to_json(report)
    data["stages"][0]["metric"] = {"name": "loss", "value": 0.1, "higher_is_better": False}
    chart = charts.metric(data)
    assert chart is None or {track.label for track in chart.tracks} == {"capture"}


def test_trials_start_alike_and_what_is_on_the_test_set_stays_out(report: Report) -> None:
    data: Any = to_json(report)
    values = {"check baseline": 90, "try l2": 50, "try taylor": 60, "prune": 20, "test": 80}
    data["stages"] = [
        {"name": name, "seconds": 1.0, "note": "",
         "metric": {"name": "top1", "value": value, "higher_is_better": True}}
        for name, value in values.items()
    ]  # fmt: skip
    chart = charts.metric(data)
    assert chart is not None
    moved = {t.label: [m.title for m in t.marks if m.kind == "step"] for t in chart.tracks}
    changes = {name: [title.split(": ")[1] for title in titles] for name, titles in moved.items()}
    down = [show.difference(90, values[name]) for name in ("try l2", "try taylor", "prune")]
    assert list(changes.values()) == [[], *([change] for change in down)]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ([16.8, 16.88], "16.80–16.88 ms"),
        ([1.0, 3.5], "1.00–3.50 ms"),
        ([120.4, 131.0], "120–131 ms"),
        ([0.0, 0.0], "0.00–0.00 ms"),
        ([2.0, 2.0], "2.00–2.00 ms"),
        ([0.01234, 0.01236], "0.0123–0.0124 ms"),
        ([None, 2.0], "–"),
    ],
)
def test_intervals_keep_their_ends_apart(interval: list[float | None], text: str) -> None:
    assert show.span_ms(interval) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(2, 1, "−50 %"), (1000, 1000, "0.0 %"), (1000, 1013, "+1.3 %"), (0, 5, "–"), (5, None, "–")],
)
def test_change_has_a_real_minus_and_no_minus_zero(
    before: float, after: float | None, text: str
) -> None:
    assert show.change(before, after) == text
