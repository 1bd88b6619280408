"""Many kernels as one ExecuTorch program, written directly: no export, no compiler.

Each kernel becomes an XNNPACK delegate of one node, and all delegates are called one after the
other by one method. Weights and inputs are read from one shared block of data, outputs are
written to one shared buffer: contents do not change a kernel's speed, addresses and sizes do.
Images are N H W C, as XNNPACK keeps them inside a lowered network, so that no transposition is
measured with a convolution.

The schema is the wheel's own `schema/program.fbs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from edgeprune.cost.pte_parts import aligned, put_together
from edgeprune.cost.shapes import Shape
from edgeprune.cost.xnnpack_graph import BYTES, FLOAT_BYTES, FP32, INT8, Graph
from edgeprune.cost.xnnpack_nodes import WEIGHTED, kernel_graph
from edgeprune.records import KernelKey

_ALIGN = 64
# XNNPACK may read a little past the end of its inputs (XNN_EXTRA_BYTES, at most 128).
_SLACK = 256
_SCALAR_TYPES = {FP32: 6, INT8: 1}
"""ExecuTorch's names for them: FLOAT and CHAR."""
_RANDOM_FLOATS = 1 << 20


def build_program(keys: Sequence[KernelKey], data: Any = None, *, outputs: bool = False) -> bytes:
    """A `.pte` that executes `keys`, in the order that `schedule` says.

    `data` is the float32 array that inputs and weights are read from (each from its start, the
    inputs of one kernel one after the other); random numbers in ±1 by default. With `outputs` every
    kernel's result is an output of the method, in its own memory, else all share one buffer.
    """
    graphs = [kernel_graph(key, f"k{i}") for i, key in enumerate(keys)]
    needed = data_floats(graphs)
    if data is None:
        some = np.random.default_rng(0).uniform(-1, 1, _RANDOM_FLOATS).astype(np.float32)
        data = np.resize(some, needed)
    blob = np.ascontiguousarray(data, dtype=np.float32).tobytes()
    blob = blob.ljust(needed * FLOAT_BYTES, b"\0")
    return _assemble(graphs, schedule(keys), blob, separate=outputs)


def schedule(keys: Sequence[KernelKey]) -> list[int]:
    """Which kernel each call of the program executes.

    In a network a kernel finds its input still in the cache, its weights not. So kernels without
    weights are called twice in a row, and the second call is the one to look at.
    """
    return [i for i, key in enumerate(keys) for _ in range(1 if key.op in WEIGHTED else 2)]


def data_floats(graphs: Sequence[Graph]) -> int:
    """How many float32 numbers the shared block must hold for `graphs`."""
    most = 0
    for graph in graphs:
        weights = max((c["size"] for c in graph.constants), default=0)
        most = max(most, weights, sum(_placed(shape, graph.read) for shape in graph.inputs))
    return (most + _SLACK) // FLOAT_BYTES


# --- the program around the graphs -----------------------------------------------------------


def _assemble(
    graphs: Sequence[Graph], order: Sequence[int], blob: bytes, *, separate: bool
) -> bytes:
    values: list[dict[str, Any]] = []
    offsets = [0]  # entry 0 means "not constant"
    buffer_of: dict[int, int] = {}
    arguments, delegates, results = [], [], []
    segments = [blob]
    arena, largest = 0, 0
    for graph in graphs:
        args, place = [], 0
        for shape in graph.inputs:
            if place not in buffer_of:
                buffer_of[place] = len(offsets)
                offsets.append(place)
            args.append(len(values))
            values.append(_tensor(shape, graph.read, constant=buffer_of[place]))
            place += _placed(shape, graph.read)
        args.append(len(values))
        results.append(len(values))
        values.append(_tensor(graph.output, graph.written, offset=arena))
        size = _placed(graph.output, graph.written) + _ALIGN
        largest = max(largest, arena + size)
        arena += size if separate else 0
        arguments.append(args)
        processed = {"location": 1, "index": len(segments)}
        delegates.append({"id": "XnnpackBackend", "processed": processed, "compile_specs": []})
        segments.append(graph.to_bytes())
    calls = [
        {"instr_args": ("DelegateCall", {"delegate_index": i, "args": arguments[i]})} for i in order
    ]
    plan = {
        "name": "forward",
        "container_meta_type": {"encoded_inp_str": "", "encoded_out_str": ""},
        "values": values,
        "inputs": [],
        "outputs": results if separate else [],
        "chains": [{"inputs": [], "outputs": [], "instructions": calls}],
        "operators": [],
        "delegates": delegates,
        "non_const_buffer_sizes": [0, largest + _SLACK],
    }
    # Every weight has a name of its own, so that the runtime's cache of packed weights does not
    # take one for another; they all lie over the same bytes.
    named = [{"key": c["named_key"], "segment_index": 0} for g in graphs for c in g.constants]
    program = {
        "version": 0,
        "execution_plan": [plan],
        "constant_segment": {"segment_index": 0, "offsets": offsets},
        "named_data": named,
    }
    return put_together(program, segments, _ALIGN)


def _tensor(
    shape: Shape, datatype: int, *, constant: int = 0, offset: int | None = None
) -> dict[str, Any]:
    tensor: dict[str, Any] = {
        "scalar_type": _SCALAR_TYPES[datatype],
        "sizes": list(shape),
        "dim_order": list(range(len(shape))),
        "data_buffer_idx": constant,
    }
    if offset is not None:
        low, high = offset & 0xFFFFFFFF, offset >> 32
        tensor["allocation_info"] = {
            "memory_id": 1,
            "memory_offset_low": low,
            "memory_offset_high": high,
        }
    return {"val": ("Tensor", tensor)}


def _placed(shape: Shape, datatype: int) -> int:
    return aligned(prod(shape) * BYTES[datatype], _ALIGN)
