"""`edgeprune profile` for Arm Ethos-U: the cycles that Vela estimates, layer by layer."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.cli import show
from edgeprune.units import show_bytes, show_count, show_ms

if TYPE_CHECKING:
    from edgeprune.records import Graph, Target
    from edgeprune.vela_reports import VelaEstimate


def vela_profile(graph: Graph, target: Target) -> VelaEstimate:
    """`graph` compiled by Vela for `target`, and what Vela says of it; raises as `lower` does."""
    from edgeprune.lowering import lower_for_latency
    from edgeprune.measuring.vela import vela_estimate

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        return vela_estimate(lower_for_latency(graph, target, Path(folder) / "model.pte").path)


def vela_document(estimate: VelaEstimate) -> dict[str, Any]:
    """The whole estimate for programs to read."""
    return {
        "estimated": True,
        "latency_ms": estimate.ms,
        "layer_cycles": estimate.layer_cycles,
        "difference": _difference(estimate),
        **asdict(estimate),
    }


def show_vela(estimate: VelaEstimate, name: str) -> None:
    """The layers as a table, their sum beside the summary of the whole."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("op", no_wrap=True)
    for heading in ("cycles", "share", "MACs", "MACs used"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in estimate.layers:
        table.add_row(
            layer.name,
            layer.op,
            str(layer.cycles),
            f"{layer.cycles / max(1, estimate.layer_cycles):.1%}",
            show_count(layer.macs),
            f"{layer.utilisation:.0%}",
        )
    show.rich(table)
    show.line(
        f"{name} on {estimate.accelerator} ({estimate.system_config}, {estimate.memory_mode}, "
        f"{estimate.clock_hz / 1e6:.0f} MHz), estimated by Vela, not measured:"
    )
    show.line(f"  the layers together  {estimate.layer_cycles} cycles")
    show.line(
        f"  Vela's summary       {estimate.cycles} cycles, {show_ms(estimate.ms)} "
        f"(the layers: {_difference(estimate):+.2%})"
    )
    show.line(f"  SRAM                 {show_bytes(estimate.sram_bytes)}")


def _difference(estimate: VelaEstimate) -> float:
    return estimate.layer_cycles / estimate.cycles - 1
