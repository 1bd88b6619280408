"""A run on the terminal: what `fit` ends with and `report DIR` shows, drawn from report.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgeprune.cli import show

if TYPE_CHECKING:
    import rich.table

    from edgeprune.report.schema import ReportJson
    from edgeprune.report.tables import Table

_STYLE = {"met": "bold green", "missed": "bold red", "undecidable": "bold yellow"}


def show_report(document: Mapping[str, Any], directory: Path, *, details: bool = False) -> None:
    """Print report.json's content for people; `details` adds the stages, rounds and layers."""
    from rich.markup import escape

    from edgeprune.report import elsewhere, tables

    report = cast("ReportJson", document)
    title = f"[bold]{escape(report['model'])}[/] on {escape(report['target']['name'])}"
    show.rich(title, as_rich(tables.summary(report)))
    if details:
        there = [elsewhere.summary(report, device) for device in report.get("devices", [])]
        parts = (tables.stages(report), tables.rounds(report), tables.layers(report))
        for table in (*there, *parts):
            if table.rows:
                show.rich(f"[bold]{escape(table.title)}[/]", as_rich(table))
    show.rich(verdict(report), *(f"note: {escape(note)}" for note in report["notes"]))
    show.line(f"\nin {directory}:")
    files = {**report["artifacts"], "this report, with charts": "report.html"}
    for role, name in files.items():
        show.line(f"  {name:<20} {role}")


def verdict(report: ReportJson) -> str:
    """The verdict in rich's markup, with the budget it is about and the reasons."""
    from rich.markup import escape

    from edgeprune.report.show import budget

    word = report["verdict"]
    asked = ", ".join(budget(report["budget"]))
    lines = [f"budget [{_STYLE[word]}]{word}[/]: {escape(asked)}"]
    return "\n".join([*lines, *(f"  {escape(reason)}" for reason in report["reasons"])])


def as_rich(table: Table) -> rich.table.Table:
    """A report's table for the terminal, as narrow as its contents."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_footer=bool(table.foot))
    for index, column in enumerate(table.columns):
        foot = table.foot[index].text if index < len(table.foot) else ""
        drawn.add_column(
            Text(column.title), footer=Text(foot), justify="right" if column.numeric else "left"
        )
    for row in table.rows:
        drawn.add_row(*(Text(cell.text) for cell in row))
    return drawn
