"""What a device could do at best, from its vendor's peak rates: an estimate, never a measurement.

A kernel takes the longer of computing (its multiply-accumulates at the peak rate) and moving (its
inputs, weights and outputs, each once, at the peak bandwidth): the roofline of Williams, Waterman
and Patterson (Roofline: an insightful visual performance model, CACM 2009). Real devices are slower
than that; what the estimate is good for is comparing widths of one network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from edgeprune.cost.grid import Tiles
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import MeasuredCost
from edgeprune.cost.shapes import output_shape
from edgeprune.cost.xnnpack_graph import FLOAT_BYTES
from edgeprune.cost.xnnpack_nodes import delegated, kernel_graph
from edgeprune.errors import TargetError
from edgeprune.records import ChannelGroups, Graph, KernelKey, Rates, Target

# Bytes of one element by the code of XNNPACK's schema (XNNDatatype).
_ELEMENT_BYTES = {1: 4, 2: 2, 3: 1, 4: 1, 5: 4, 6: 1, 7: 4, 8: 0.5, 9: 1, 10: 0.5, 12: 4, 14: 2}
_NO_TENSOR = 0xFFFFFFFF
_FIRST = ("input_id", "input1_id", "query_id")


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates, and bytes that go to or come from memory."""

    macs: int
    bytes: int


@dataclass(frozen=True)
class Roof:
    """The peak rates that hold for a target: per second, all of its threads together."""

    macs_per_s: float
    bytes_per_s: float
    source: str

    def us(self, work: Work) -> float:
        """Microseconds that `work` takes at best."""
        return 1e6 * max(work.macs / self.macs_per_s, work.bytes / self.bytes_per_s)


def roof_of(target: Target) -> Roof:
    """The target's roof. Raises TargetError where its profile does not say its peak rates."""
    rates: Rates | None = target.rates
    if rates is None or target.dtype not in rates.gmacs_per_s:
        raise TargetError(
            f"target {target.name!r} does not say what the device can do in {target.dtype}: set "
            f"rates.gmacs_per_s.{target.dtype}, rates.memory_gb_per_s and rates.source "
            f"({target.source or 'no file'})"
        )
    return Roof(
        1e9 * rates.gmacs_per_s[target.dtype] * target.threads,
        1e9 * rates.memory_gb_per_s,
        rates.source,
    )


def graph_work(
    nodes: Iterable[Mapping[str, Any]], values: Iterable[Mapping[str, Any]]
) -> list[Work]:
    """The work of each node of an XNNPACK graph, as the schema spells nodes and values."""
    tensors = {}
    for value in values:
        kind, held = value["xvalue_union"]
        tensor = held["tensor_value"] if kind == "XNNQuantizedTensorValue" else held
        tensors[int(tensor.get("id_out", 0))] = tensor
    found = []
    for node in nodes:
        kind, fields = node["xnode_union"]
        ids = _operands(fields)
        dims = {name: tuple(tensors[i].get("dims", ())) for name, i in ids.items()}
        moved = sum(_bytes(tensors[i]) for i in set(ids.values()))
        found.append(Work(_macs(kind, fields, dims), moved))
    return found


def kernel_work(key: KernelKey) -> Work:
    """The work of one kernel of a network; only moving, for one outside the delegate."""
    if key.op == "delegate_call" or not key.shapes or any(0 in shape for shape in key.shapes):
        return Work(0, 0)
    if delegated(key.op):
        graph = kernel_graph(key)
        (work,) = graph_work(graph.nodes, graph.values)
        return work
    shapes = (*key.shapes, output_shape(key))
    return Work(0, FLOAT_BYTES * sum(prod(shape) for shape in shapes))


@dataclass(frozen=True)
class EstimatedCost(MeasuredCost):
    """A `CostModel` whose kernels are estimated from peak rates; nothing was measured."""

    roof: Roof = Roof(1.0, 1.0, "")

    def kernel_us(self, key: KernelKey) -> float:
        """Estimated time of one kernel, microseconds."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.roof.us(kernel_work(key))
        return known


def estimate(graph: Graph, target: Target, groups: ChannelGroups) -> EstimatedCost:
    """What `graph` costs on `target` at best, at any widths; TargetError without peak rates."""
    multiple = target.channel_multiple or 1
    return EstimatedCost(
        kernels(graph, groups.extents),
        groups.full_widths(),
        {group.name: group.parts for group in groups.groups},
        {},
        Tiles(multiple, multiple),
        roof=roof_of(target),
    )


def _operands(fields: Mapping[str, Any]) -> dict[str, int]:
    """Ids of the tensors that a node reads and writes, by field."""
    ids = {
        name: value
        for name, value in fields.items()
        if name.endswith("_id") and value != _NO_TENSOR
    }
    if not any(name in ids for name in _FIRST):
        # The format leaves out zeros, and 0 is the id of the program's first input.
        several = {"key_id": "query_id", "filter_id": "input1_id", "input2_id": "input1_id"}
        ids[next((first for name, first in several.items() if name in ids), "input_id")] = 0
    return ids


def _bytes(tensor: Mapping[str, Any]) -> int:
    return int(prod(tensor.get("dims", ())) * _ELEMENT_BYTES[tensor["datatype"]])


def _macs(kind: str, fields: Mapping[str, Any], dims: Mapping[str, tuple[int, ...]]) -> int:
    out = prod(dims.get("output_id", ()))
    window = int(fields.get("kernel_height", 0)) * int(fields.get("kernel_width", 0))
    if kind == "XNNConv2d":
        return out * window * int(fields["group_input_channels"])
    if kind == "XNNDepthwiseConv2d":
        return out * window
    if kind == "XNNConvTranspose2d":
        inputs = prod(next(dims[name] for name in _FIRST if name in dims))
        return inputs * window * int(fields["group_output_channels"])
    if kind == "XNNFullyConnected":
        return out * dims["filter_id"][-1]
    if kind == "XNNBatchMatrixMultiply":
        return out * dims["input1_id"][-1]
    if kind == "XNNScaledDotProductAttention":
        query, key = dims["query_id"], dims["key_id"]
        return 2 * prod(query) * key[-2]
    return 0
