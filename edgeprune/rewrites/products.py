"""Products of two tensors as one batched product of matrices, of no dimension more than needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

aten = torch.ops.aten


@rewrite("batched product", aten.matmul.default)
def matmul(a: Tensor, b: Tensor) -> Any:
    """(..., L, E) @ (..., E, S) with equal leading dimensions: one batched product, with no
    copies to broadcast what needs no broadcasting."""
    if a.dim() < 4 or a.shape[:-2] != b.shape[:-2]:
        return NotImplemented
    parts = math.prod(a.shape[:-2])
    product = torch.bmm(a.reshape(parts, *a.shape[-2:]), b.reshape(parts, *b.shape[-2:]))
    return product.reshape(*a.shape[:-1], b.shape[-1])


@rewrite("einsum", aten.einsum.default)
def einsum(equation: str, operands: Sequence[Tensor], *, path: Any = None) -> Any:
    """Letters of both operands and the result are the batch, those of both operands alone are
    summed over. PyTorch gives every operand a dimension for every letter first, more than
    XNNPACK knows where there are seven."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or len(operands) != 2 or not equation.isascii() or "." in equation:
        return NotImplemented
    (a, b), (left, right) = operands, inputs.split(",")
    sizes = dict(zip(left + right, (*a.shape, *b.shape), strict=True))
    shared = [x for x in left if x in right]
    batch, summed = ([x for x in shared if (x in result) is kept] for kept in (True, False))
    rows, columns = ([x for x in of if x not in shared] for of in (left, right))
    made = [*batch, *rows, *columns]
    repeated = any(len(set(of)) < len(of) for of in (left, right))
    stretched = any(a.shape[left.index(x)] != b.shape[right.index(x)] for x in shared)
    if repeated or stretched or sorted(made) != sorted(result):
        return NotImplemented

    def matrices(x: Tensor, have: str, *parts: Sequence[str]) -> Tensor:
        ordered = x.permute([have.index(letter) for part in parts for letter in part])
        return ordered.reshape([math.prod(sizes[letter] for letter in part) for part in parts])

    product = torch.bmm(
        matrices(a, left, batch, rows, summed), matrices(b, right, batch, summed, columns)
    )
    wanted = [made.index(letter) for letter in result]
    return product.reshape([sizes[letter] for letter in made]).permute(wanted)
