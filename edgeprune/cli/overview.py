"""What `edgeprune inspect` writes for people: groups, what is pinned, blocks; 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from edgeprune.cli import show
from edgeprune.cli.folding import Row, broken, folded
from edgeprune.units import show_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from edgeprune.records import Block, ChannelGroup, ChannelGroups, Graph

_NAME_WIDTH = 46
_WIDTH = 80


def show_overview(graph: Graph, groups: ChannelGroups, blocks: Sequence[Block]) -> None:
    """Write what can be pruned, what is pinned and why, and the blocks that can be dropped."""
    parameters = dict(graph.module().named_parameters())
    shape = "x".join(str(size) for size in graph.example_inputs[0].shape)
    count = show_count(sum(p.numel() for p in parameters.values()))
    heads = [group for group in groups.groups if group.holds]
    free = sum(group.size for group in groups.groups if not group.holds)
    pinned = sum(pin.size for pin in groups.pinned)
    also = f" and {sum(g.size for g in heads)} whole heads" if heads else ""
    show.line(
        f"{graph.name}: input {shape}, {count} parameters\n"
        f"{free} channels{also} can be pruned, in {len(groups.groups)} groups; {pinned} are pinned"
    )
    show.rich(_groups_table(groups))
    _show_pinned(groups)
    _show_blocks(blocks, {name: p.numel() for name, p in parameters.items()})


def _groups_table(groups: ChannelGroups) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", width=_NAME_WIDTH)
    table.add_column("channels", justify="right")
    table.add_column("made by", justify="right")
    table.add_column("read by", justify="right")
    rows = [Row(group.name, _shown(group)) for group in _in_order(groups)]
    for row in folded(rows):
        cells = (broken(row.name, _NAME_WIDTH), *map(str, row.shown))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _in_order(groups: ChannelGroups) -> list[ChannelGroup]:
    """Groups in the model's order, heads after the channels inside of them."""
    place = {group.name: float(i) for i, group in enumerate(groups.groups)}
    for group in groups.groups:
        if group.holds:
            place[group.name] = max(place[name] for name in group.holds) + 0.5
    return sorted(groups.groups, key=lambda group: place[group.name])


def _shown(group: ChannelGroup) -> tuple[str, int, int]:
    """Channels (parts x channels of each), layers that make them, layers that read them."""
    size = f"{group.parts} x {group.size // group.parts}" if group.parts > 1 else f"{group.size}"
    by_role = {
        role: len({s.parameter.rpartition(".")[0] for s in group.slices if s.role == role})
        for role in ("out", "in")
    }
    return (f"{size} heads" if group.holds else size, by_role["out"], by_role["in"])


def _show_pinned(groups: ChannelGroups) -> None:
    if groups.pinned:
        show.line("pinned:")
    rows = [Row(pin.name, (pin.size, pin.op, pin.reason)) for pin in groups.pinned]
    source_of = {row: pin.source for row, pin in reversed([*zip(rows, groups.pinned, strict=True)])}
    first = {row.shown: source for row, source in source_of.items()}
    for row in folded(rows):
        size, op, reason = row.shown
        each = " each" if row.times > 1 else ""
        source = source_of.get(row, first[row.shown])
        show.line(_wrapped(f"{row.name}: {size} channels{each}, by {op}", 2))
        show.line(_wrapped(str(reason), 4))
        if source not in ("", op):
            show.line(_wrapped(source, 4))


def _show_blocks(blocks: Sequence[Block], sizes: dict[str, int]) -> None:
    """The blocks that `edgeprune plan --drop NAME` takes out, with what they hold."""
    if blocks:
        show.line(f"residual blocks that can be dropped whole: {len(blocks)}")
    held = [sum(sizes.get(name, 0) for name in block.parameters) for block in blocks]
    rows = [Row(b.name, (show_count(n),)) for b, n in zip(blocks, held, strict=True)]
    for row in folded(rows):
        each = " each" if row.times > 1 else ""
        show.line(_wrapped(f"{row.name}: {row.shown[0]} parameters{each}", 2))


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    )
