"""What a program that was made by rewriting sizes would take if it were lowered: file and memory.

The file is counted from its tables and the sizes of its weights. Memory is planned as ExecuTorch
plans it (`exir/memory_planning.py`, the greedy algorithm): tensors from the largest to the
smallest, each in the first buffer that has room for it while it is alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from edgeprune.cost.pte_parts import Parts, Tree, aligned, graph_bytes, size_together

_SEGMENT_BYTES = 128
_ALIGNMENT, _PADDING = 16, 64
_ITEM_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 11: 1, 15: 2}
"""Bytes of one number by PyTorch's `ScalarType`."""

Lifetime = tuple[int, int]


@dataclass
class _Buffer:
    """Memory that tensors share: (offset, bytes, lifetime) of each."""

    size: int
    held: list[tuple[int, int, Lifetime]] = field(default_factory=list)

    def above(self, life: Lifetime) -> int:
        """Where the last tensor that is alive together with `life` ends; 0 where none is."""
        return max(
            (
                offset + size
                for offset, size, (first, last) in self.held
                if life[0] <= last and first <= life[1]
            ),
            default=0,
        )


def file_bytes(parts: Parts) -> int:
    """The length of a .pte of these parts, bytes; off by a constant for one network, since tables
    can be written in more than one way."""
    sizes = [_constant_bytes(parts)] if parts.constants else []
    sizes += [len(graph_bytes(graph)) for graph in parts.graphs]
    named = [
        {"key": key, "segment_index": len(sizes) + i} for i, key in enumerate(parts.named_bytes)
    ]
    program = {**parts.program, "named_data": named}
    return size_together(program, [*sizes, *parts.named_bytes.values()], _SEGMENT_BYTES)


def planned_bytes(parts: Parts) -> int:
    """The memory that ExecuTorch would plan for the activations between delegates, bytes.

    Where two tensors are of one size, ExecuTorch's order is not known: the older one goes first.
    """
    (plan,) = parts.program["execution_plan"]
    values = [value["val"] for value in plan["values"]]
    lives = _lifetimes(plan, parts, values)
    sizes = {v: aligned(_tensor_bytes(values[v][1]), _ALIGNMENT) for v in lives}
    buffers: list[_Buffer] = []
    for value in sorted(lives, key=lambda v: (-sizes[v], lives[v])):
        _place(buffers, sizes[value], lives[value])
    return sum(buffer.size for buffer in buffers) + (_PADDING if buffers else 0)


def _place(buffers: list[_Buffer], size: int, life: Lifetime) -> None:
    """Puts a tensor where nothing lives meanwhile, else behind what does, else in a new buffer."""
    ends = [(buffer, buffer.above(life)) for buffer in buffers]
    free = next((buffer for buffer, end in ends if not end), None)
    if free is not None:
        free.held.append((0, size, life))
        return
    room = next(((buffer, end) for buffer, end in ends if end + size <= buffer.size), None)
    if room is not None:
        buffer, end = room
        buffer.held.append((end, size, life))
        return
    buffers.append(_Buffer(size, [(0, size, life)]))


def _constant_bytes(parts: Parts) -> int:
    """The length of the segment of the tensors that kernels outside of delegates read."""
    (plan,) = parts.program["execution_plan"]
    held = [v["val"][1] for v in plan["values"] if v["val"][0] == "Tensor"]
    sizes = {t["data_buffer_idx"]: _tensor_bytes(t) for t in held if t.get("data_buffer_idx")}
    end = 0
    for index in sorted(sizes):
        end = aligned(end, _ALIGNMENT) + sizes[index]
    return end


def _lifetimes(plan: Tree, parts: Parts, values: list[Any]) -> dict[int, Lifetime]:
    """The first and the last instruction that each planned tensor is used by.

    What is read and was never written is a view: its tensor is the one that was last written at
    its place.
    """
    outside = set(plan["inputs"])
    lives: dict[int, Lifetime] = {}
    holder: dict[tuple[int, int], int] = {}
    (chain,) = plan["chains"]
    instructions = [instruction["instr_args"] for instruction in chain["instructions"]]
    for i, (kind, fields) in enumerate(instructions):
        written = set(_written(kind, fields, parts, values))
        for value in dict.fromkeys(_tensors(fields.get("args", ()), values)):
            place = _spot(values[value])
            if place is None or value in outside:
                continue
            if value in written:
                holder[place] = value
            owner = value if value in lives or value in written else holder.get(place, value)
            lives[owner] = (lives.get(owner, (i, i))[0], i)
    for value in plan["outputs"]:
        if value in lives:
            lives[value] = (lives[value][0], len(instructions))
    return lives


def _written(kind: str, fields: Tree, parts: Parts, values: list[Any]) -> Iterator[int]:
    """The tensors that an instruction writes: a delegate's outputs, a kernel's result."""
    args = fields.get("args", ())
    if kind == "DelegateCall":
        graph = parts.graphs[fields.get("delegate_index", 0)]
        yield from _tensors(args[len(args) - len(graph["output_ids"]) :], values)
    elif kind == "KernelCall":
        yield from _tensors(args[-1:], values)


def _tensors(args: Any, values: list[Any]) -> Iterator[int]:
    """The tensors among values, those in lists as well."""
    for index in args:
        kind, held = values[index]
        if kind == "Tensor":
            yield index
        elif kind == "TensorList":
            yield from held.get("items", ())


def _spot(value: Any) -> tuple[int, int] | None:
    """The arena and the offset in it; None where the tensor is not planned."""
    planned = value[1].get("allocation_info")
    if planned is None:
        return None
    return planned.get("memory_id", 0), planned.get("memory_offset_low", 0)


def _tensor_bytes(tensor: Tree) -> int:
    return prod(tensor.get("sizes", ())) * _ITEM_BYTES[tensor.get("scalar_type", 0)]
