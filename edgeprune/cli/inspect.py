"""`edgeprune inspect`: what of a model can be pruned, what cannot and why, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
from edgeprune.cli.options import (
    InputOption,
    JsonOption,
    ModelOption,
    SettingsOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    target_from,
)
from edgeprune.cli.progress import progress
from edgeprune.units import show_bytes, show_count, show_ms

if TYPE_CHECKING:
    from rich.table import Table

    from edgeprune.records import ChannelGroups, CostModel, Graph


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
    json: JsonOption = False,
) -> None:
    """Show what can be pruned, what is pinned and why, and what each kernel costs.

    A group is a set of channels that must live or die together. Groups with several
    parts (grouped convolutions, channel shuffles) keep the same number in each. A
    residual block is a branch that is added to its own input, and can go whole.

    \b
    Examples:
      edgeprune inspect --model torchvision:mobilenet_v2
      edgeprune inspect --model net.py:make --input 1x1x28x28 --cost
      edgeprune inspect --model torchvision:resnet18 --json
    """
    chosen = target_from(target, threads, settings) if cost else None
    with progress() as report_progress:
        graph, _ = load_graph(ModelChoice(model, weights, input), DataChoice(), report_progress)
        from edgeprune.channels import channel_groups

        report_progress("channels", 0, 0, graph.name)
        groups = channel_groups(graph)
        costs = None
        if chosen is not None:
            from edgeprune.cost import profile

            costs = profile(graph, chosen, groups, progress=report_progress)
    if json:
        show.document(_document(graph, groups, costs))
    else:
        _show(graph, groups, costs)


def _document(graph: Graph, groups: ChannelGroups, costs: CostModel | None) -> dict[str, Any]:
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
        document["latency_ms"] = costs.latency_ms(widths)
        document["size_bytes"] = costs.size_bytes(widths)
    return document


def _show(graph: Graph, groups: ChannelGroups, costs: CostModel | None) -> None:
    shape = "x".join(str(size) for size in graph.example_inputs[0].shape)
    free = sum(group.size for group in groups.groups)
    pinned = sum(pin.size for pin in groups.pinned)
    show.line(
        f"{graph.name}: input {shape}, {show_count(_parameters(graph))} parameters\n"
        f"{free} channels can be pruned, in {len(groups.groups)} groups; {pinned} are pinned"
    )
    show.rich(_groups_table(groups))
    if groups.pinned:
        show.line("pinned:")
    for pin in groups.pinned:
        where = f", {pin.source}" if pin.source not in ("", pin.op) else ""
        show.line(f"  {pin.name}: {pin.size} channels, by {pin.op}{where}\n    {pin.reason}")
    _show_blocks(graph)
    if costs is not None:
        widths = groups.full_widths()
        show.rich(_kernels_table(groups, costs))
        show.line(
            f"predicted: {show_ms(costs.latency_ms(widths))}, "
            f".pte of {show_bytes(costs.size_bytes(widths))}"
        )


def _show_blocks(graph: Graph) -> None:
    """The blocks that `edgeprune plan --drop NAME` takes out, with what they hold."""
    from edgeprune.blocks import blocks

    found = blocks(graph)
    if found:
        show.line(f"residual blocks that can be dropped whole: {len(found)}")
    sizes = {name: p.numel() for name, p in graph.module().named_parameters()}
    for block in found:
        held = sum(sizes.get(name, 0) for name in block.parameters)
        show.line(f"  {block.name}: {show_count(held)} parameters")


def _groups_table(groups: ChannelGroups) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", overflow="fold")
    table.add_column("channels", justify="right")
    table.add_column("parts", justify="right")
    table.add_column("tied to", overflow="fold")
    table.add_column("used by", justify="right")
    for group in groups.groups:
        makers = {s.parameter.rpartition(".")[0] for s in group.slices if s.role == "out"}
        others = sorted(makers - {group.name, ""})
        tied = others[0] + (f" +{len(others) - 1}" if len(others) > 1 else "") if others else ""
        used = len({s.parameter for s in group.slices if s.role == "in"})
        row = (group.name, str(group.size), str(group.parts), tied, str(used))
        table.add_row(*(Text(cell) for cell in row))
    return table


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
    for kernel, us in zip(costs.kernels, times, strict=True):
        shapes = ", ".join("x".join(map(str, shape)) for shape in kernel.at(widths).shapes)
        at = kernel.nodes[0] if kernel.nodes else ""
        table.add_row(kernel.op, at, shapes, f"{us:.1f}", f"{100 * us / total:.1f} %")
    return table


def _parameters(graph: Graph) -> int:
    return sum(parameter.numel() for parameter in graph.module().parameters())
