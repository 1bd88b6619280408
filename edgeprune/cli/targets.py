"""`edgeprune targets`: the device profiles there are, and the check of a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@show.results_only
def targets(context: typer.Context, json: JsonOption = False) -> None:
    """List the targets, or check a profile of your own.

    A target is the device a program ships to: backend, runner, dtype and threads in
    a small TOML file. Wherever a command takes --target, a name from this list or
    the path of a profile will do.

    \b
    Examples:
      edgeprune targets
      edgeprune targets check my-board.toml
      edgeprune fit --target my-board.toml ...
    """
    if context.invoked_subcommand is not None:
        return
    from edgeprune.targets import list_targets, load_target

    found = [load_target(path) for path in list_targets().values()]
    if json:
        show.document(found)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        "target", "backend", "dtype", "threads", "costs", "", box=SIMPLE_HEAD, pad_edge=False
    )
    for target in found:
        table.add_row(
            target.name,
            target.backend,
            target.dtype,
            str(target.threads),
            target.costs,
            target.description,
        )
    show.rich(table)


@app.command(short_help="Read a profile and tell all that is wrong with it.")
@show.results_only
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A profile ending in .toml.")],
    json: JsonOption = False,
) -> None:
    """Read a profile and show what it says, or everything that is wrong with it.

    \b
    Example:
      edgeprune targets check my-board.toml
    """
    from edgeprune.targets import check_target
    from edgeprune.units import show_bytes

    target = check_target(file)
    if json:
        show.document(target)
        return
    show.line(f"{file} is a valid target: {target.name}")
    for name, value in (
        ("description", target.description),
        ("backend", target.backend),
        ("runner", target.runner),
        ("dtype", target.dtype),
        ("threads", str(target.threads)),
        ("costs", target.costs),
        ("largest .pte", show_bytes(target.max_size_bytes) if target.max_size_bytes else "any"),
        ("most memory", show_bytes(target.max_memory_bytes) if target.max_memory_bytes else "any"),
    ):
        show.line(f"  {name:<13} {value}")
