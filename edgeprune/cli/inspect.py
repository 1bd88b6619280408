"""`edgeprune inspect`: what of a model can be pruned, what cannot and why, and what it costs."""

from __future__ import annotations

from itertools import groupby
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
from edgeprune.cli.progress import progress
from edgeprune.units import show_bytes, show_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from edgeprune.records import ChannelGroups, CostModel, Graph, Widths


def inspect(
    model: ModelOption,
    weights: WeightsOption = None,
    input: InputOption = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Add the predicted cost of every kernel on the target.")
    ] = False,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    rewrite: RewriteOption = True,
    json: JsonOption = False,
) -> None:
    """Show what can be pruned, what is pinned and why, and what each kernel costs.

    A group is a set of channels that must live or die together; 12 x 64 are 12 parts
    (heads, groups of a convolution) that keep the same number each, 12 heads can go
    whole. Names that repeat are folded: layers.{0..3}.mlp are four groups. A residual
    block is a branch that is added to its own input, and can go whole.

    \b
    Examples:
      edgeprune inspect --model torchvision:mobilenet_v2
      edgeprune inspect --model net.py:make --input 1x1x28x28 --cost
      edgeprune inspect --model torchvision:resnet18 --json
    """
    chosen = target_from(target, threads, settings, rewrite=rewrite) if cost else None
    with progress() as report_progress:
        graph, _ = load_graph(ModelChoice(model, weights, input), DataChoice(), report_progress)
        from edgeprune.channels import channel_groups

        report_progress("channels", 0, 0, graph.name)
        groups = channel_groups(graph)
        costs = None
        applied: Mapping[str, int] = {}
        if chosen is not None:
            from edgeprune.measuring.kernels import profile
            from edgeprune.rewrites import rewrites_of

            costs = profile(graph, chosen, groups, progress=report_progress)
            applied = rewrites_of(graph, chosen)
    if json:
        show.document(_document(graph, groups, costs, applied))
    else:
        _show(graph, groups, costs, applied)


def _document(
    graph: Graph, groups: ChannelGroups, costs: CostModel | None, applied: Mapping[str, int]
) -> dict[str, Any]:
    from edgeprune.blocks import blocks

    document: dict[str, Any] = {
        "model": graph.name,
        "input_shape": list(graph.example_inputs[0].shape),
        "params": _parameters(graph),
        "fingerprint": groups.fingerprint,
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "parts": group.parts,
                "holds": list(group.holds),
                "parameters": [
                    {"name": piece.parameter, "dim": piece.dim, "role": piece.role}
                    for piece in group.slices
                ],
            }
            for group in groups.groups
        ],
        "pinned": groups.pinned,
        "blocks": [{"name": block.name, "parameters": block.parameters} for block in blocks(graph)],
    }
    if costs is not None:
        widths = groups.full_widths()
        document["kernels"] = [
            {
                "op": kernel.op,
                "nodes": kernel.nodes,
                "shapes": kernel.at(widths).shapes,
                "attrs": dict(kernel.at(widths).attrs),
                "groups": sorted(kernel.groups),
                "us": costs.kernel_us(kernel.at(widths)),
            }
            for kernel in costs.kernels
        ]
        document["rewrites"] = applied
        document["outside"] = [
            {"op": op, "count": count, "us": us}
            for op, (count, us) in _outside(costs, widths).items()
        ]
        document["latency_ms"] = costs.latency_ms(widths)
        document["size_bytes"] = costs.size_bytes(widths)
    return document


def _show(
    graph: Graph, groups: ChannelGroups, costs: CostModel | None, applied: Mapping[str, int]
) -> None:
    from edgeprune.blocks import blocks
    from edgeprune.cli.overview import show_overview

    show_overview(graph, groups, blocks(graph))
    if costs is not None:
        widths = groups.full_widths()
        show.rich(_kernels_table(groups, costs))
        for name, number in applied.items():
            show.line(f"rewritten for the delegate: {number} x {name}")
        for op, (number, us) in _outside(costs, widths).items():
            show.line(f"outside the delegate: {number} x {op}, {show_ms(us / 1000)}")
        show.line(
            f"predicted: {show_ms(costs.latency_ms(widths))}, "
            f".pte of {show_bytes(costs.size_bytes(widths))}"
        )


def _outside(costs: CostModel, widths: Widths) -> dict[str, tuple[int, float]]:
    """(how often, µs together) of each operator that the delegate does not take, dearest first."""
    found: dict[str, tuple[int, float]] = {}
    for kernel in costs.kernels:
        _, outside, op = kernel.op.partition("portable:")
        if outside:
            count, us = found.get(op, (0, 0.0))
            found[op] = count + 1, us + costs.kernel_us(kernel.at(widths))
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _kernels_table(groups: ChannelGroups, costs: CostModel) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    widths = groups.full_widths()
    times = [costs.kernel_us(kernel.at(widths)) for kernel in costs.kernels]
    total = sum(times) or 1.0
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("kernel")
    table.add_column("at", overflow="fold")
    table.add_column("input shapes", overflow="fold")
    table.add_column("us", justify="right")
    table.add_column("share", justify="right")
    # calls of the delegate come last, one for each piece that the network is cut into
    priced = zip(costs.kernels, times, strict=True)
    for kernel, alike in groupby(priced, key=lambda pair: pair[0]):
        found = [us for _, us in alike]
        name = kernel.op if len(found) == 1 else f"{len(found)} x {kernel.op}"
        shapes = ", ".join("x".join(map(str, shape)) for shape in kernel.at(widths).shapes)
        at = kernel.nodes[0] if kernel.nodes else ""
        table.add_row(name, at, shapes, f"{sum(found):.1f}", f"{100 * sum(found) / total:.1f} %")
    return table


def _parameters(graph: Graph) -> int:
    return sum(parameter.numel() for parameter in graph.module().parameters())
