"""Program → manifest: what the file itself says, and what only its maker knows."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.cost.flatbuffer import decode
from edgeprune.cost.pte_parts import program_schema
from edgeprune.errors import MeasureError
from edgeprune.records import Graph, Manifest, Normalisation, Port, Target

if TYPE_CHECKING:
    from edgeprune.data import Data

Array = NDArray[Any]

# ScalarType of the format (runtime/core/portable_type/scalar_type.h) in numpy's words.
_DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
    15: "bfloat16",
}
NHWC = "NHWC"
_LAYOUTS = {(0, 1, 2, 3): "NCHW", (0, 2, 3, 1): NHWC}

# The oldest runtime that read programs of this release when they were tried. Upstream promises that
# a program runs on the next minor runtime, and nothing for older ones, so by default it is the
# release that made it.
_OLDEST: Mapping[str, str] = {}

NOT_TOLD = Normalisation("not known: the program was lowered without data")


@dataclass(frozen=True)
class Told:
    """What the program's maker knows and the file does not say."""

    model: str
    names: tuple[str, ...] = ()
    """Of the inputs."""
    normalisation: Normalisation = NOT_TOLD
    """Of the first input."""
    labels: tuple[str, ...] = ()
    outside: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, data: Data | None, outside: Mapping[str, int]) -> Told:
        """What a graph and the data that it was made with tell."""
        names = tuple(str(n.target) for n in graph.program.graph.nodes if n.op == "placeholder")
        if data is None:
            return cls(graph.name, names, outside=outside)
        how = Normalisation(data.normalisation or "none", data.mean, data.std)
        return cls(graph.name, names, how, data.labels, outside)


def describe(path: Path, target: Target, told: Told) -> Manifest:
    """The manifest of the program at `path`, lowered for `target` by the installed executorch.

    Shapes, dtypes and layouts are read from the program. Labels are left out where they are not as
    many as the first output has columns. Raises MeasureError where the file is not a program.
    """
    data = path.read_bytes()
    inputs, outputs = ports_of(path)
    runtime = version("executorch")
    named = [
        Port(
            told.names[i] if i < len(told.names) else port.name,
            port.shape,
            port.dtype,
            port.layout,
            told.normalisation if i == 0 else None,
        )
        for i, port in enumerate(inputs)
    ]
    columns = outputs[0].shape[-1] if outputs and outputs[0].shape else 0
    return Manifest(
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        model=told.model,
        target=target.name,
        backend=target.backend,
        dtype=target.dtype,
        threads=target.threads,
        runtime=f"executorch {runtime}",
        oldest_runtime=f"executorch {_OLDEST.get(runtime, runtime)}",
        inputs=tuple(named),
        outputs=outputs,
        labels=told.labels if len(told.labels) == columns else (),
        outside=dict(told.outside),
        requires=target.requires,
        made_with={name: version(name) for name in ("edgeprune", "torch", "executorch")},
    )


def in_memory(array: Array, layout: str) -> Array:
    """`array` (in the order of its dimensions) with its values as they lie in memory by `layout`,
    under its own shape: what a runtime that takes bytes wants."""
    if layout != NHWC:
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).reshape(array.shape)


def ports_of(path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of the program's `forward` (or only) method, by number.

    Raises MeasureError where the file is not a program.
    """
    try:
        plans = decode(program_schema(), "Program", path.read_bytes())["execution_plan"]
        plan = next((p for p in plans if p["name"] == "forward"), plans[0])
        return _tensors(plan, "input"), _tensors(plan, "output")
    except (struct.error, KeyError, IndexError, ValueError, UnicodeDecodeError) as error:
        raise MeasureError(f"{path} is not a program whose inputs can be read: {error}") from error


def _tensors(plan: Mapping[str, Any], what: str) -> tuple[Port, ...]:
    values: Sequence[Any] = plan["values"]
    found = []
    for number, index in enumerate(plan.get(f"{what}s", ())):
        kind, value = values[index]["val"]
        if kind != "Tensor":
            found.append(Port(f"{what}{number}", (), kind.lower(), "scalar"))
            continue
        shape = tuple(int(size) for size in value.get("sizes", ()))
        order = tuple(int(d) for d in value.get("dim_order", range(len(shape))))
        scalar = value.get("scalar_type", 0)
        dtype = _DTYPES.get(scalar, f"scalar type {scalar}")
        found.append(Port(f"{what}{number}", shape, dtype, _layout(order)))
    return tuple(found)


def _layout(order: tuple[int, ...]) -> str:
    if order in _LAYOUTS:
        return _LAYOUTS[order]
    plain = order == tuple(range(len(order)))
    return "row-major" if plain else f"dimensions in the order {list(order)}"
