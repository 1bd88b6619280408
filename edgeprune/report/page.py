"""report.json → the pages that people read. Both need nothing but the JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from edgeprune.report import charts, elsewhere, show, tables
from edgeprune.report.charts import Skyline, TrackChart
from edgeprune.report.schema import ReportJson
from edgeprune.report.tables import Table
from edgeprune.units import show_count

_VERDICTS = {"met": "Budget met", "missed": "Budget missed", "undecidable": "Undecidable"}


@dataclass(frozen=True)
class Headline:
    """One number of the headline: before → after, the change in words, and what else to know."""

    label: str
    before: str
    after: str
    change: str
    details: tuple[str, ...] = ()
    estimated: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with the charts and tables under it."""

    title: str
    tracks: tuple[TrackChart, ...] = ()
    skylines: tuple[Skyline, ...] = ()
    tables: tuple[Table, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """Everything the templates print, already in words."""

    model: str
    target: str
    verdict: str
    verdict_text: str
    subtitle: str
    reasons: tuple[str, ...]
    limits: tuple[str, ...]
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    schema: str
    estimated: bool


def to_html(data: dict[str, Any]) -> str:
    """One self-contained HTML file: no script, nothing loaded from anywhere.

    `data` is what `to_json` or `read_report` returned.
    """
    return _templates().get_template("report.html.j2").render(page=_page(cast(ReportJson, data)))


def to_markdown(data: dict[str, Any]) -> str:
    """The same report as GitHub-flavoured Markdown tables, without the charts.

    `data` is what `to_json` or `read_report` returned.
    """
    return _templates().get_template("report.md.j2").render(page=_page(cast(ReportJson, data)))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgeprune.report"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown_text
    return environment


def _markdown_text(text: str) -> str:
    """`text` as one line of Markdown that shows exactly it, also inside a table's cell."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # layer1_0_conv needs no escape


def _page(data: ReportJson) -> Page:
    conditions = data["conditions"]
    threads = conditions["threads"]
    subtitle = (
        conditions["runtime"],
        conditions["backend"],
        conditions["dtype"],
        f"{threads} thread{'' if threads == 1 else 's'}",
        conditions["cpu"],
        show.date(conditions["date"]),
    )
    guess = show.estimated(data)
    return Page(
        model=data["model"],
        target=data["target"]["name"],
        verdict=data["verdict"],
        verdict_text=_VERDICTS[data["verdict"]] + (" (estimated)" if guess else ""),
        subtitle=" · ".join(part for part in subtitle if part),
        reasons=tuple(data["reasons"]),
        limits=tuple(show.budget(data["budget"])),
        headlines=_headlines(data),
        sections=_sections(data),
        notes=_notes(data),
        schema=data["schema"],
        estimated=guess,
    )


def _headlines(data: ReportJson) -> tuple[Headline, ...]:
    before, after = data["baseline"], data["final"]
    guess = show.estimated(data)
    lines = [
        Headline(
            "Latency",
            show.ms(before["latency_ms"]["median"]),
            show.ms(after["latency_ms"]["median"]),
            show.speedup(data),
            (f"median; 95 % interval {show.span_ms(after['latency_ms']['interval'])}",),
            guess,
        ),
        Headline(
            "Size of the .pte",
            show.size(before["size_bytes"]),
            show.size(after["size_bytes"]),
            show.change(before["size_bytes"], after["size_bytes"]),
            (f"parameters {show_count(before['params'])} → {show_count(after['params'])}",),
        ),
    ]
    metric = after["metric"] or before["metric"]
    if metric is not None:
        name = metric["name"]
        lines.append(
            Headline(
                name[:1].upper() + name[1:],
                show.metric(before["metric"]),
                show.metric(after["metric"]),
                show.metric_change(before["metric"], after["metric"]),
                ("on the test set" + ("" if metric["higher_is_better"] else "; lower is better"),),
            )
        )
    return tuple(lines)


def _sections(data: ReportJson) -> tuple[Section, ...]:
    """In reading order; a section with nothing to show is left out."""
    latency, metric, rounds = charts.latency(data), charts.metric(data), charts.rounds(data)
    skylines = tuple(chart for chart in (charts.widths(data), charts.costs(data)) if chart)
    sections = (
        Section("Result", (latency,) if latency else (), (), (tables.summary(data),)),
        Section(
            "On other devices",
            elsewhere.drawings(data),
            (),
            elsewhere.listings(data),
            "Measured by a kit or an app on the device itself and imported; the programs are this "
            "run's own, by their hashes.",
        ),
        Section(
            "Layers",
            (),
            skylines,
            (tables.layers(data),),
            "Cost is that of the layer's own kernel on the target; kernels between layers "
            "(pooling, additions) are not in the sum.",
        ),
        Section("Stages", (metric,) if metric else (), (), (tables.stages(data),)),
        Section(
            "Closed loop",
            (rounds,) if rounds else (),
            (),
            (tables.rounds(data),),
            "Each plan is cut, lowered and run on the target before anything is trained; what it "
            "took corrects the next plan.",
        ),
        Section("How it was run", tables=(tables.conditions(data), tables.parity(data))),
        Section("Pinned channels", tables=(tables.pinned(data),)),
        Section("Files and versions", tables=(tables.artifacts(data), tables.versions(data))),
    )
    return tuple(section for section in sections if any(table.rows for table in section.tables))


def _notes(data: ReportJson) -> tuple[str, ...]:
    warnings = [
        f"{name}: {warning}"
        for name, side in (("baseline", data["baseline"]), ("final", data["final"]))
        for warning in side["latency_ms"]["warnings"]
    ]
    return (*data["notes"], *warnings, *elsewhere.notes(data))
