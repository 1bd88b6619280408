"""TOSA 1.0 programs in int8, as Arm's compilers read them: tensors and operators, then the bytes.

https://www.mlplatform.org/tosa/tosa_spec.html. Images are N H W C; what adds up does so in int32
and is rescaled to int8 after, which an NPU does in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_ATTRIBUTES = {
    "ADD": "Add",
    "AVG_POOL2D": "AvgPool2d",
    "CONCAT": "Concat",
    "CONV2D": "Conv2d",
    "DEPTHWISE_CONV2D": "DepthwiseConv2d",
    "MAX_POOL2D": "MaxPool2d",
    "MUL": "Mul",
    "RESCALE": "Rescale",
    "SUB": "Sub",
    "TABLE": "Table",
    "TRANSPOSE": "Transpose",
}
_SPREAD = 32.0


@dataclass(frozen=True)
class Tensor:
    """A tensor of a program; `wide` ones are int32, others int8."""

    name: str
    shape: tuple[int, ...]
    wide: bool = False

    @property
    def dtype(self) -> str:
        """What TOSA calls its data type."""
        return "INT32" if self.wide else "INT8"


class TosaProgram:
    """A program in the making."""

    def __init__(self) -> None:
        import tosa_serializer as ts

        self.ts = ts
        self._graph = ts.TosaSerializer(
            "", targetMajor=1, targetMinor=0, targetPatch=0, targetDraft=False
        )
        self._block = self._graph.currRegion.currBasicBlock
        self._count = 0

    def input(self, shape: Sequence[int]) -> Tensor:
        """A new input."""
        made = Tensor(self._name(), tuple(shape))
        kind = self.ts.DType.INT8
        tensor = self.ts.TosaSerializerTensor(made.name, list(shape), kind, data=None)
        self._graph.addInputTensor(tensor)
        return made

    def const(self, values: Any, dtype: str) -> Tensor:
        """A constant; dtype as TOSA calls it."""
        values = np.asarray(values)
        made = Tensor(self._name(), values.shape, dtype == "INT32")
        kind = getattr(self.ts.DType, dtype)
        self._graph.addConst(list(values.shape), kind, values, name=made.name)
        return made

    def zero(self, dtype: str = "INT8") -> Tensor:
        """A zero point of 0."""
        return self.const(np.zeros(1, np.int32 if dtype == "INT32" else np.int8), dtype)

    def weight(self, shape: Sequence[int]) -> Tensor:
        """Weights of a normal distribution: their values matter to their compression only."""
        drawn = np.random.default_rng(0).normal(0, _SPREAD, tuple(shape))
        return self.const(drawn.clip(-127, 127).astype(np.int8), "INT8")

    def op(
        self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], wide: bool, **attrs: Any
    ) -> Tensor:
        """An operator's output."""
        made = Tensor(self._name(), tuple(shape), wide)
        self._block.addTensor(made.name, list(shape), getattr(self.ts.DType, made.dtype))
        attribute = self.ts.TosaSerializerAttribute()
        getattr(attribute, f"{_ATTRIBUTES[op]}Attribute")(**attrs)
        names = [x.name for x in inputs]
        self._graph.addOperator(getattr(self.ts.Op, op), names, [made.name], attribute)
        return made

    def rescale(self, x: Tensor, wide: bool = False) -> Tensor:
        """`x` on another scale, in int8 or (`wide`) in int32."""
        scale = self.const(np.array([1 << 30], np.int32), "INT32")
        shift = self.const(np.array([38], np.int8), "INT8")
        return self.op(
            "RESCALE",
            [x, scale, shift, self.zero(x.dtype), self.zero("INT32" if wide else "INT8")],
            x.shape,
            wide,
            scale32=True,
            rounding_mode=self.ts.RoundingMode.SINGLE_ROUND,
            per_channel=False,
            input_unsigned=False,
            output_unsigned=False,
        )

    def finished(self, output: Tensor) -> bytes:
        """The flatbuffer of the program that gives `output`."""
        self._block.addOutput(output.name)
        return bytes(self._graph.serialize())

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"
