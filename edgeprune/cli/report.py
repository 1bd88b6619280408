"""`edgeprune report`: the report of a finished run, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption
from edgeprune.errors import EdgepruneError


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output directory of a fit.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print it as one HTML page.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the report of a finished run: before and after, stages, rounds, layers.

    \b
    Examples:
      edgeprune report runs/resnet18
      edgeprune report runs/resnet18 --html > resnet18.html
      edgeprune report runs/resnet18 --json
    """
    if markdown + html + json > 1:
        raise EdgepruneError("--markdown, --html and --json exclude one another: give one")

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
