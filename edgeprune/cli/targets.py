"""`edgeprune targets`: the device profiles there are, and the check of a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption

if TYPE_CHECKING:
    from edgeprune.records import Target

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
    from edgeprune.lowering.backends import backend_names
    from edgeprune.targets import list_targets, load_target

    found = [load_target(path) for path in list_targets().values()]
    if json:
        show.document(found)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("target", "backend", "runner", "dtype", "costs", "has run"):
        table.add_column(heading, no_wrap=True)
    for target in found:
        table.add_row(
            target.name,
            target.backend,
            target.runner,
            target.dtype,
            target.costs,
            "yes" if target.has_run else "no",
        )
    show.rich(table)
    show.line("has run: whether this project has run programs on such a device")
    missing = sorted({target.backend for target in found} - set(backend_names()))
    if missing:
        show.line(f"not lowered for yet: {', '.join(missing)}")


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

    target = check_target(file)
    if json:
        show.document(target)
        return
    show.line(f"{file} is a valid target: {target.name}")
    for name, value in _facts(target):
        show.line(f"  {name:<13} {value}")


def _facts(target: Target) -> Iterator[tuple[str, str]]:
    from edgeprune.units import show_bytes

    yield "description", target.description
    yield "backend", target.backend
    yield "runner", target.runner
    yield "dtype", target.dtype
    yield "threads", str(target.threads)
    yield "costs", target.costs
    yield "has run", "yes, here" if target.has_run else "not by this project"
    for name, size in (
        ("largest .pte", target.max_size_bytes),
        ("memory", target.max_memory_bytes),
    ):
        yield name, show_bytes(size) if size else "any"
    if target.requires:
        yield "requires", target.requires
    if target.reach.hosts:
        yield "devices", ", ".join(target.reach.hosts)
    if target.rates is not None:
        peaks = ", ".join(f"{dtype} {rate:g}" for dtype, rate in target.rates.gmacs_per_s.items())
        yield "peak", f"{peaks} GMAC/s, memory {target.rates.memory_gb_per_s:g} GB/s"
        yield "peak's source", target.rates.source
    if target.vela is not None:
        yield "accelerator", target.vela.accelerator
    if target.core is not None:
        yield "core", target.core
