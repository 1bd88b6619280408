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
KEEP_DIMS = 0x40
_NO_OFFSET = 0xFFFFFFFFFFFFFFFF
_FP32 = 1
_EXTERNAL_INPUT, _EXTERNAL_OUTPUT = 1, 2
_HEADER = 32
_ACTIVATIONS = {
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
}


@dataclass
class Graph:
    """An XNNGraph while it is written: its values and nodes, as the schema spells them."""

    name: str
    values: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[Shape] = field(default_factory=list)
    output: Shape = ()

    def input(self, dims: Sequence[int]) -> int:
        """A tensor that the program passes in; its id."""
        self.inputs.append(tuple(dims))
        return self._value(dims, external=len(self.inputs) - 1, flags=_EXTERNAL_INPUT)

    def result(self, dims: Sequence[int]) -> int:
        """The tensor that the program gets back; declared after all inputs; its id."""
        self.output = tuple(dims)
        return self._value(dims, external=len(self.inputs), flags=_EXTERNAL_OUTPUT)

    def weights(self, dims: Sequence[int]) -> int:
        """A constant tensor; its id."""
        key = f"{self.name}.{len(self.constants)}"
        size = prod(dims) * FLOAT_BYTES
        self.constants.append({"offset": _NO_OFFSET, "size": size, "named_key": key})
        return self._value(dims, constant=len(self.constants))

    def node(self, kind: str, activation: str | None = None, **fields: Any) -> None:
        """Appends a node; `activation` is fused into it."""
        node: dict[str, Any] = {"xnode_union": (kind, {"flags": 0, **fields})}
        if activation is not None:
            node["output_min_max"] = dict(
                zip(("output_min", "output_max"), limits(activation), strict=True)
            )
        self.nodes.append(node)

    def _value(
        self, dims: Sequence[int], *, external: int = NO_VALUE, flags: int = 0, constant: int = 0
    ) -> int:
        tensor = {
            "datatype": _FP32,
            "num_dims": len(dims),
            "dims": list(dims),
            "constant_buffer_idx": constant,
            "external_id": external,
            "flags": flags,
            "id_out": len(self.values),
        }
        self.values.append({"xvalue_union": ("XNNTensorValue", tensor)})
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


def limits(activation: str) -> tuple[float, float]:
    """What a fused activation clamps to: "relu", "relu6", or "clamp(-2.0,2.0)"."""
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation]
    low, _, high = activation.removeprefix("clamp(").removesuffix(")").partition(",")
    return float(low), float(high)
