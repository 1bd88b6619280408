"""Ops that fall out of the delegate as one program of their own, through ExecuTorch's compiler.

Only for these is the compiler worth its time: what an ATen op becomes outside the delegate (which
kernel, how many) is the compiler's to say. Many are compiled together, which takes a tenth of what
each takes by itself, and told apart afterwards by the tensors that they read and write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgeprune.cost.pte_parts import Tree, take_apart
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.records import KernelKey


@dataclass(frozen=True)
class Portable:
    """A .pte that runs some keys with no delegate, inputs for it, and whose each instruction is:
    `owners[i]` is the place of its key, or -1."""

    program: bytes
    inputs: tuple[torch.Tensor, ...]
    owners: tuple[int, ...]


class _Call(torch.nn.Module):
    """One ATen call on given tensors."""

    def __init__(self, key: KernelKey) -> None:
        super().__init__()
        name, _, overload = key.op.removeprefix(PREFIX).removeprefix("aten.").partition(".")
        self._op = getattr(getattr(torch.ops.aten, name), overload)
        self._args, self._kwargs = json.loads(dict(key.attrs)["call"])
        self._sizes = key.shapes
        self.reads = tensors_of(key)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        held = dict(zip(self.reads, tensors, strict=True))
        args = [self._filled(arg, held) for arg in self._args]
        result = self._op(*args, **{k: self._filled(v, held) for k, v in self._kwargs.items()})
        return tuple(result) if isinstance(result, list | tuple) else (result,)

    def _filled(self, arg: Any, tensors: dict[int, torch.Tensor]) -> Any:
        if isinstance(arg, dict):
            return tensors[arg["tensor"]] if "tensor" in arg else list(self._sizes[arg["sizes"]])
        return [self._filled(item, tensors) for item in arg] if isinstance(arg, list) else arg


class _Calls(torch.nn.Module):
    """Several, each on tensors of its own."""

    def __init__(self, calls: Sequence[_Call]) -> None:
        super().__init__()
        self._calls = torch.nn.ModuleList(calls)

    def forward(self, *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        results, start = [], 0
        for call in self._calls:
            end = start + len(call.reads)  # type: ignore[arg-type]
            results.append(call(*tensors[start:end]))
            start = end
        return results


def tensors_of(key: KernelKey) -> tuple[int, ...]:
    """Which of the shapes of a key outside the delegate are tensors; the others are arguments."""
    return tuple(sorted(set(_tensors(json.loads(dict(key.attrs)["call"])))))


def _tensors(arg: Any) -> list[int]:
    if isinstance(arg, dict):
        if "tensor" in arg:
            return [arg["tensor"]]
        return [i for value in arg.values() for i in _tensors(value) if not isinstance(value, int)]
    return [i for item in arg for i in _tensors(item)] if isinstance(arg, list) else []


def portable_program(keys: Sequence[KernelKey]) -> Portable:
    """The program that runs `keys`. Raises whatever the compiler raises on what it cannot take."""
    from executorch.exir import to_edge

    calls = [_Call(key) for key in keys]
    shapes = [key.shapes[i] for key, call in zip(keys, calls, strict=True) for i in call.reads]
    inputs = tuple(torch.rand(shape) + 0.5 for shape in shapes)
    exported = torch.export.export(_Calls(calls).eval(), inputs)
    program = bytes(to_edge(exported).to_executorch().buffer)
    (plan,) = take_apart(program).program["execution_plan"]
    reader = [number for number, call in enumerate(calls) for _ in call.reads]
    return Portable(program, inputs, _owners(plan, reader))


def _owners(plan: Tree, reader: Sequence[int]) -> tuple[int, ...]:
    """Whose each instruction is: what reads a key's inputs, or what such an instruction wrote."""
    owner = dict(zip(plan["inputs"], reader, strict=True))
    kinds = [value["val"][0] for value in plan["values"]]
    owners = []
    for instruction in plan["chains"][0]["instructions"]:
        args = [
            i
            for arg in instruction["instr_args"][1].get("args", ())
            for i in _members(plan["values"], arg)
            if kinds[i] == "Tensor" and not _constant(plan["values"][i])
        ]
        found = {owner[i] for i in args if i in owner}
        mine = found.pop() if len(found) == 1 else -1
        owners.append(mine)
        if mine >= 0:
            owner.update(dict.fromkeys(args, mine))
    return tuple(owners)


def _members(values: Sequence[Tree], index: int) -> tuple[int, ...]:
    kind, value = values[index]["val"]
    return tuple(value.get("items", ())) if kind.endswith("TensorList") else (index,)


def _constant(value: Tree) -> bool:
    tensor = value["val"][1]
    return bool(tensor.get("data_buffer_idx")) and "allocation_info" not in tensor
