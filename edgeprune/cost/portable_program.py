"""An op that falls out of the delegate as a program of its own, through ExecuTorch's compiler.

Only for these is the compiler worth its second per op: what an ATen op becomes outside the delegate
(which kernel, how many) is the compiler's to say.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from edgeprune.cost.rules_outside import PREFIX
from edgeprune.records import KernelKey


class _Call(torch.nn.Module):
    """One ATen call on given tensors."""

    def __init__(self, key: KernelKey) -> None:
        super().__init__()
        name, _, overload = key.op.removeprefix(PREFIX).removeprefix("aten.").partition(".")
        self._op = getattr(getattr(torch.ops.aten, name), overload)
        self._args, self._kwargs = json.loads(dict(key.attrs)["call"])

    def forward(self, *tensors: torch.Tensor) -> Any:
        args = [_filled(arg, tensors) for arg in self._args]
        result = self._op(*args, **{k: _filled(v, tensors) for k, v in self._kwargs.items()})
        return tuple(result) if isinstance(result, list | tuple) else (result,)


def _filled(arg: Any, tensors: tuple[torch.Tensor, ...]) -> Any:
    if isinstance(arg, dict):
        return tensors[arg["tensor"]]
    return [_filled(item, tensors) for item in arg] if isinstance(arg, list) else arg


def portable_program(key: KernelKey) -> tuple[bytes, list[torch.Tensor]]:
    """The .pte that runs `key` with no delegate, and inputs for it.

    Raises whatever the compiler raises on an op it cannot take.
    """
    from executorch.exir import to_edge

    inputs = [torch.rand(shape) + 0.5 for shape in key.shapes]
    exported = torch.export.export(_Call(key).eval(), tuple(inputs))
    return bytes(to_edge(exported).to_executorch().buffer), inputs
