"""`edgeprune measure`: programs timed on a target, several of them interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import (
    JsonOption,
    SettingsOption,
    TargetOption,
    ThreadsOption,
    target_from,
)
from edgeprune.cli.progress import progress
from edgeprune.output import claim_file
from edgeprune.records import Measurement
from edgeprune.units import show_bytes, show_ms

if TYPE_CHECKING:
    from rich.table import Table


def measure(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.pte", exists=True, dir_okay=False, help="Programs to time."),
    ],
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    result: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the samples as kits and apps do, for `report --import`.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time programs on a target: median, spread, and the ratio to the first one.

    Several files are run turn by turn, so that what disturbs the machine disturbs
    them all; ratios come with a 95 % interval. The time is the runtime's own
    execution, without copies of inputs and outputs.

    \b
    Examples:
      edgeprune measure model.pte
      edgeprune measure runs/net/baseline.pte runs/net/model.pte --threads 2
      edgeprune measure model.pte --target linux-arm64 \\
          --set 'reach.hosts=["pi@raspberrypi.local"]'
      edgeprune measure model.pte --json
      edgeprune measure runs/net/baseline.pte runs/net/model.pte --result r.json
    """
    out = None if result is None else claim_file(result)
    chosen = target_from(target, threads, settings)
    with progress() as report_progress:
        from edgeprune.measuring import compare, speedup

        found = compare(files, chosen, progress=report_progress)
    if out is not None:
        from edgeprune.measuring.bundle import digest_of
        from edgeprune.measuring.results import write_result

        write_result(out, found, [digest_of(file) for file in files])
    ratios = [speedup(found[0], other) for other in found[1:]]
    if json:
        show.document(
            {
                "target": chosen,
                "measurements": found,
                "speedups": [
                    {"path": other.path, "over": found[0].path, "ratio": value, "interval": ends}
                    for other, (value, ends) in zip(found[1:], ratios, strict=True)
                ],
            }
        )
        return
    show.rich(_table(files, found, ratios))
    conditions = found[0].conditions
    show.line(
        f"{conditions.cpu}, {conditions.threads} thread(s), {conditions.runtime} "
        f"({conditions.backend}, {conditions.dtype}), load {conditions.load:.2f}"
    )
    for warning in dict.fromkeys(text for one in found for text in one.warnings):
        show.line(f"note: {warning}")


def _table(
    files: Sequence[Path],
    found: Sequence[Measurement],
    ratios: Sequence[tuple[float, tuple[float, float]]],
) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("program", overflow="fold")
    for heading in ("median", "p10–p90", "samples", "memory", "speedup"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = ["", *(f"{value:.2f}× ({low:.2f}–{high:.2f})" for value, (low, high) in ratios)]
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    for name, one, faster in zip(names, found, shown, strict=True):
        table.add_row(
            Text(name),
            show_ms(one.median_ms) + (" (estimated)" if one.estimated else ""),
            "–".join(show_ms(end).removesuffix(" ms") for end in (one.p10_ms, one.p90_ms)),
            str(len(one.samples_ms)),
            show_bytes(one.peak_rss_bytes) if one.peak_rss_bytes else "unknown",
            faster,
        )
    return table
