"""`edgeprune report`: the report of a finished run, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption
from edgeprune.cli.progress import progress, say
from edgeprune.errors import EdgepruneError
from edgeprune.units import show_ms


def report(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Output directory of a fit.")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="RESULT.json",
            exists=True,
            dir_okay=False,
            help="Fold in what a kit, an app or `measure --result` wrote on a device.",
        ),
    ] = None,
    as_table: Annotated[
        bool,
        typer.Option("--as-table", help="Keep the kernels' times of --import in the cost table."),
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="Another cost table than the user's own."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print it as one HTML page.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the report of a finished run: before and after, stages, rounds, layers.

    With --import, what was measured on another device is folded in first: both
    programs must be the run's own, by their hashes. --as-table keeps the kernels'
    times that a kit made with --profile brought; DIR may then be left out.

    \b
    Examples:
      edgeprune report runs/resnet18
      edgeprune report runs/resnet18 --html > resnet18.html
      edgeprune report runs/resnet18 --json
      edgeprune report runs/resnet18 --import result.json
      edgeprune report --import result.json --as-table
    """
    if (as_table or table is not None) and result is None:
        raise EdgepruneError("--as-table and --table go with --import RESULT.json")
    if directory is None and not as_table:
        raise EdgepruneError(
            "name the output directory of a fit: edgeprune report DIR (more: --help)"
        )
    if markdown + html + json > 1:
        raise EdgepruneError("--markdown, --html and --json exclude one another: give one")
    if result is not None:
        from edgeprune.cost.table import default_path

        _import(result, directory, (table or default_path()) if as_table else None)
    if directory is None:
        return

    from edgeprune.cli.summary import show_report
    from edgeprune.report import read_report, to_html, to_markdown

    document = read_report(directory)
    if json:
        show.document(document)
    elif markdown:
        show.line(to_markdown(document).rstrip("\n"))
    elif html:
        show.line(to_html(document).rstrip("\n"))
    else:
        show_report(document, directory, details=True)


def _import(file: Path, directory: Path | None, table: Path | None) -> None:
    """Tells on stderr what was read; the report that follows is the result."""
    with progress() as report_progress:
        from edgeprune.importing import import_into_report, import_into_table
        from edgeprune.measuring.results import read_result

        result = read_result(file)
        found = None if directory is None else import_into_report(result, directory)
        tabled = None if table is None else import_into_table(result, table, report_progress)
    if found is not None:
        low, high = found.speedup_interval
        say(
            f"{found.name} ({found.device}): {show_ms(found.baseline.median_ms)} -> "
            f"{show_ms(found.final.median_ms)}, {found.speedup:.2f}x ({low:.2f}-{high:.2f})"
        )
    if tabled is not None:
        say(
            f"{table}: {tabled.kernels} kernels of {tabled.conditions.device} "
            f"({tabled.conditions.cpu}), {tabled.samples} samples"
        )
