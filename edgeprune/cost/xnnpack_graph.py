"""One kernel as an XNNPACK graph, serialised as the runtime's delegate reads it.

The schema is the wheel's own `backends/xnnpack/serialization/schema.fbs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from edgeprune.cost.pte_parts import graph_bytes
from edgeprune.cost.shapes import Shape

FLOAT_BYTES = 4
NO_VALUE = 0xFFFFFFFF
FP32, INT8, CHANNELS_INT8, CHANNELS_INT32 = 1, 3, 6, 7
"""`XNNDatatype`: floats; bytes with one scale; weights and biases with one for each channel."""
BYTES = {FP32: FLOAT_BYTES, INT8: 1, CHANNELS_INT8: 1, CHANNELS_INT32: 4}
KEEP_DIMS = 0x40
_NO_OFFSET = 0xFFFFFFFFFFFFFFFF
_SCALE = 1 / 128
_EXTERNAL_INPUT, _EXTERNAL_OUTPUT = 1, 2
_HEADER = 32
_ACTIVATIONS = {
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
}


@dataclass
class Graph:
    """An XNNGraph while it is written: its values and nodes, as the schema spells them.

    `read` and `written` are the `XNNDatatype`s of its inputs and its output. All numbers in int8
    have one scale: what they stand for does not change the time.
    """

    name: str
    read: int = FP32
    written: int = FP32
    values: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[Shape] = field(default_factory=list)
    output: Shape = ()

    def input(self, dims: Sequence[int]) -> int:
        """A tensor that the program passes in; its id."""
        self.inputs.append(tuple(dims))
        return self._value(dims, self.read, external=len(self.inputs) - 1, flags=_EXTERNAL_INPUT)

    def result(self, dims: Sequence[int]) -> int:
        """The tensor that the program gets back; declared after all inputs; its id."""
        self.output = tuple(dims)
        return self._value(dims, self.written, external=len(self.inputs), flags=_EXTERNAL_OUTPUT)

    def weights(self, dims: Sequence[int], channel: int = 0) -> int:
        """A constant tensor, its output channels along dimension `channel`; its id."""
        return self._constant(dims, FP32 if self.read == FP32 else CHANNELS_INT8, channel)

    def bias(self, channels: int) -> int:
        """A constant number for each output channel; the tensor's id."""
        return self._constant((channels,), FP32 if self.read == FP32 else CHANNELS_INT32, 0)

    def node(self, kind: str, activation: str | None = None, **fields: Any) -> None:
        """Appends a node; `activation` is fused into it."""
        node: dict[str, Any] = {"xnode_union": (kind, {"flags": 0, **fields})}
        if activation is not None:
            node["output_min_max"] = dict(
                zip(("output_min", "output_max"), limits(activation), strict=True)
            )
        self.nodes.append(node)

    def _constant(self, dims: Sequence[int], datatype: int, channel: int) -> int:
        key = f"{self.name}.{len(self.constants)}"
        size = prod(dims) * BYTES[datatype]
        self.constants.append({"offset": _NO_OFFSET, "size": size, "named_key": key})
        return self._value(dims, datatype, constant=len(self.constants), channel=channel)

    def _value(
        self,
        dims: Sequence[int],
        datatype: int,
        *,
        external: int = NO_VALUE,
        flags: int = 0,
        constant: int = 0,
        channel: int = 0,
    ) -> int:
        tensor = {
            "datatype": datatype,
            "num_dims": len(dims),
            "dims": list(dims),
            "constant_buffer_idx": constant,
            "external_id": external,
            "flags": flags,
            "id_out": len(self.values),
        }
        self.values.append({"xvalue_union": _typed(tensor, channel)})
        return len(self.values) - 1

    def to_bytes(self) -> bytes:
        """The delegate's blob: header, flatbuffer."""
        externs = len(self.inputs) + 1
        return graph_bytes(
            {
                "version": "0",
                "xnodes": self.nodes,
                "xvalues": self.values,
                "num_externs": externs,
                "input_ids": list(range(len(self.inputs))),
                "output_ids": [len(self.inputs)],
                "constant_data": [{"offset": 0, "size": 0, "named_key": ""}, *self.constants],
            }
        )


def _typed(tensor: dict[str, Any], channel: int) -> tuple[str, dict[str, Any]]:
    """A member of the schema's union of values: with its scales, where it has some."""
    if tensor["datatype"] == FP32:
        return "XNNTensorValue", tensor
    scales: tuple[str, dict[str, Any]]
    if tensor["datatype"] == INT8:
        scales = ("PerTensorQuant", {"scale": _SCALE, "zero_point": 0})
    else:
        scale = _SCALE if tensor["datatype"] == CHANNELS_INT8 else _SCALE**2
        each = [scale] * tensor["dims"][channel]
        scales = ("PerChannelQuant", {"scale": each, "channel_dim": channel})
    return "XNNQuantizedTensorValue", {"tensor_value": tensor, "quant_params": scales}


def limits(activation: str) -> tuple[float, float]:
    """What a fused activation clamps to: "relu", "relu6", or "clamp(-2.0,2.0)"."""
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation]
    low, _, high = activation.removeprefix("clamp(").removesuffix(")").partition(",")
    return float(low), float(high)
