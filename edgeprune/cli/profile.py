"""`edgeprune profile`: what a model's kernels cost on a target, measured."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
from edgeprune.cli.options import (
    InputOption,
    JsonOption,
    ModelOption,
    RewriteOption,
    SettingsOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    target_from,
)
from edgeprune.cli.profile_vela import show_vela, vela_document, vela_profile
from edgeprune.cli.progress import progress
from edgeprune.units import show_bytes, show_ms

if TYPE_CHECKING:
    from edgeprune.cost import MeasuredCost
    from edgeprune.records import Target, Widths


def profile(
    model: ModelOption,
    weights: WeightsOption = None,
    input: InputOption = None,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    rewrite: RewriteOption = True,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="Another cost table than the user's own."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure a model's kernels on a target, at all widths that pruning may leave.

    Kernels are what the runtime executes after its own fusion. Each is executed by
    itself at a few widths and kept in the cost table (`edgeprune table`), so that a
    second model, or the same one again, measures only what is new. For Arm Ethos-U
    the layers and their cycles are the estimate of Arm's compiler.

    \b
    Examples:
      edgeprune profile --model torchvision:mobilenet_v2
      edgeprune profile --model torchvision:resnet50 --threads 2
      edgeprune profile --model net.py:make --input 1x1x28x28 --json
      edgeprune profile --model torchvision:mobilenet_v2 --target ethos-u55-128
    """
    chosen = target_from(target, threads, settings, rewrite=rewrite)
    with progress() as report_progress:
        graph, _ = load_graph(ModelChoice(model, weights, input), DataChoice(), report_progress)
        if chosen.runner == "vela":
            report_progress("lowering", 0, 0, f"{graph.name} through Vela")
            estimate = vela_profile(graph, chosen)
        else:
            estimate = None
            from edgeprune.channels import channel_groups
            from edgeprune.measuring.kernels import profile as measured

            report_progress("channels", 0, 0, graph.name)
            groups = channel_groups(graph)
            cost = measured(graph, chosen, groups, progress=report_progress, table=table)
    if estimate is not None:
        if json:
            show.document({"model": graph.name, "target": chosen, **vela_document(estimate)})
        else:
            show_vela(estimate, graph.name)
        return
    full = groups.full_widths()
    if json:
        show.document({"model": graph.name, "target": chosen, **_document(cost, full)})
        return
    _show(cost, full, graph.name)
    _show_origin(cost, chosen)


def _document(cost: MeasuredCost, full: Widths) -> dict[str, Any]:
    return {
        "latency_ms": cost.latency_ms(full),
        "size_bytes": cost.size_bytes(full),
        "tiles": cost.tiles,
        "taken": cost.taken,
        "by_op": [{"op": op, "kernels": n, "us": us} for op, n, us in _by_op(cost, full)],
    }


def _by_op(cost: MeasuredCost, full: Widths) -> list[tuple[str, int, float]]:
    """(op, how many, µs together), the dearest first."""
    found: dict[str, list[float]] = defaultdict(list)
    for kernel in cost.kernels:
        found[kernel.op].append(cost.kernel_us(kernel.at(full)))
    rows = [(op, len(us), sum(us)) for op, us in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def _show(cost: MeasuredCost, full: Widths, name: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = _by_op(cost, full)
    total = sum(us for *_, us in rows) or 1.0
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("kernel", overflow="fold")
    for heading in ("count", "time", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for op, count, us in rows:
        table.add_row(op, str(count), show_ms(us / 1000), f"{us / total:.1%}")
    show.rich(table)
    show.line(
        f"{name}: {show_ms(cost.latency_ms(full))} and {show_bytes(cost.size_bytes(full))} "
        "predicted at full width"
    )


def _show_origin(cost: MeasuredCost, target: Target) -> None:
    """Where the times come from: measured kernels, or the vendor's peak rates."""
    if target.costs == "estimated":
        source = target.rates.source if target.rates is not None else "no source"
        show.line(
            f"estimated, not measured: the best that {target.name}'s peak rates allow ({source})"
        )
        return
    taken = cost.taken
    show.line(
        f"{taken.kernels} kernels at the widths that tell all others: {taken.executed} measured "
        f"now with {taken.samples} samples, the rest known; {taken.seconds:.1f} s"
    )
    if taken.held_out:
        middle, last = (taken.held_out[int(q * (len(taken.held_out) - 1))] for q in (0.5, 0.95))
        show.line(
            f"checked on {len(taken.held_out)} kernels in between: median error {middle:.1%}, "
            f"95 % within {last:.1%}; {taken.refined} kinds got more points"
        )
    show.line(
        f"steps: output channels of convolutions by {cost.tiles.pointwise}, of depthwise ones by "
        f"{cost.tiles.depthwise}"
    )
