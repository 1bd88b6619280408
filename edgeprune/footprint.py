"""What a network weighs by itself: parameters, multiply-accumulates, widths of its layers."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import fx
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.blocks import blocks
from edgeprune.graph import module_path
from edgeprune.records import ChannelGroups, CostModel, Graph, Kernel, Layer, Widths

_PIECE = 1 << 20
_WEIGHT_ARGUMENT = ("conv", "linear")


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one forward pass over the example inputs (batch as given).

    Half the operations that PyTorch's flop counter finds (convolutions and matrix products).
    """
    module = copy.deepcopy(graph.program).to("meta")
    inputs = [x.to("meta") for x in graph.example_inputs]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def compressed_bytes(path: Path) -> int:
    """What a file takes after zlib at level 9, as a download of it would."""
    compressor = zlib.compressobj(9)
    with path.open("rb") as file:
        total = sum(
            len(compressor.compress(piece)) for piece in iter(lambda: file.read(_PIECE), b"")
        )
    return total + len(compressor.flush())


def layers(
    graph: Graph, groups: ChannelGroups, widths: Widths, cost: CostModel | None
) -> tuple[Layer, ...]:
    """Every layer with weights, its (in, out) channels and predicted cost before and after.

    A layer in a dropped block is (0, 0) after.
    """
    kernels = {name: k for k in (cost.kernels if cost is not None else ()) for name in k.nodes}
    full = groups.full_widths()
    gone = {n for block in blocks(graph) if widths.get(block.key) == 0 for n in block.nodes}
    found = []
    for node in graph.program.graph.nodes:
        if not _has_weights(node):
            continue
        channel = 1 if "conv" in str(node.target) else -1
        source = node.args[0]
        assert isinstance(source, fx.Node)
        reads, makes = groups.extents[source.name], groups.extents[node.name]
        kernel = kernels.get(node.name)
        found.append(
            Layer(
                name=module_path(node) or str(node.args[1]),
                op=str(node.target).removeprefix("aten.").removesuffix(".default"),
                before=(reads[channel].at(full), makes[channel].at(full)),
                after=(0, 0)
                if node.name in gone
                else (reads[channel].at(widths), makes[channel].at(widths)),
                before_us=_us(kernel, full, cost),
                after_us=_us(kernel, widths, cost) if node.name not in gone else 0.0,
            )
        )
    return tuple(found)


def _has_weights(node: fx.Node) -> bool:
    name: str | Callable[..., object] = node.target
    return node.op == "call_function" and any(
        str(name).startswith(f"aten.{kind}") for kind in _WEIGHT_ARGUMENT
    )


def _us(kernel: Kernel | None, widths: Widths, cost: CostModel | None) -> float | None:
    if kernel is None or cost is None:
        return None
    return round(cost.kernel_us(kernel.at(widths)), 3)
