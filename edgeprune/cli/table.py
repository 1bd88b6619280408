"""`edgeprune table`: the kernels that were measured: what there is, export, import."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption

if TYPE_CHECKING:
    from edgeprune.records import KernelKey

app = typer.Typer(rich_markup_mode=None)

FileOption = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE", help="Another table than the user's own."),
]


@app.callback(invoke_without_command=True)
@show.results_only
def table(context: typer.Context, table: FileOption = None, json: JsonOption = False) -> None:
    """Show what kernels have been measured and under which conditions.

    `profile`, `plan` and `fit` measure kernels on the target and keep them, so that the
    next model that has them need not. Times that were taken under other conditions
    (processor, runtime, threads, dtype, governor) are never mixed.

    \b
    Examples:
      edgeprune table
      edgeprune table export board.json
      edgeprune table import board.json
    """
    if context.invoked_subcommand is not None:
        return
    from edgeprune.cost.table import IDENTITY, CostTable, default_path

    path = table or default_path()
    keys: defaultdict[tuple[object, ...], set[KernelKey]] = defaultdict(set)
    samples: Counter[tuple[object, ...]] = Counter()
    latest: dict[tuple[object, ...], str] = {}
    for batch in CostTable(path).everything():
        names = tuple(getattr(batch.conditions, name) for name in IDENTITY)
        keys[names].update(key for key, _ in batch.kernels)
        samples[names] += sum(len(us) for _, us in batch.kernels)
        latest[names] = max(latest.get(names, ""), batch.conditions.date)
    listed = [
        {
            **dict(zip(IDENTITY, names, strict=True)),
            "kernels": len(keys[names]),
            "samples": samples[names],
            "latest": latest[names],
        }
        for names in keys
    ]
    if json:
        show.document({"path": path, "conditions": listed})
        return
    show.line(f"{path}: {len(listed)} set(s) of conditions")
    for row in listed:
        show.line(
            f"  {row['device']}: {row['cpu']}, {row['threads']} thread(s), {row['runtime']} "
            f"({row['backend']}, {row['dtype']})"
        )
        show.line(f"    {row['kernels']} kernels, {row['samples']} samples, latest {row['latest']}")


@app.command(name="export", short_help="Write the whole table as one JSON file.")
@show.results_only
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="File to write.")],
    table: FileOption = None,
) -> None:
    """Write all that was measured to one JSON file, to be imported elsewhere.

    \b
    Example:
      edgeprune table export pixel8.json
    """
    from edgeprune.cost.exchange import write_table
    from edgeprune.cost.table import CostTable, default_path
    from edgeprune.output import claim_file

    count = write_table(CostTable(table or default_path()), claim_file(file))
    show.line(f"{file}: {count} kernels")


@app.command(name="import", short_help="Add what an exported file holds.")
@show.results_only
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.json", exists=True, dir_okay=False, help="From export.")
    ],
    table: FileOption = None,
) -> None:
    """Add the measurements of an exported file to the table, conditions included.

    What is there already is kept once; a file that is wrong somewhere is refused
    whole, with what is wrong.

    \b
    Example:
      edgeprune table import pixel8.json
    """
    from edgeprune.cost.exchange import read_table
    from edgeprune.cost.table import CostTable, default_path

    count = read_table(file, CostTable(table or default_path()))
    show.line(f"{file}: {count} kernels")
