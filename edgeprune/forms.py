"""Layers as linear maps of rows: which inputs meet which weights, by op.

Every layer with weights computes outputs = rows · matrixᵀ + constant, for one or more groups. A
form says how an op's input becomes rows, its output the same rows, its weight the matrix. A
function per family, in a table by ATen op.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

aten = torch.ops.aten


@dataclass(frozen=True)
class Form:
    """How one layer is a linear map: groups of `inputs` → `outputs`, all counted per group.

    `positions` is how many rows one sample has, and `rows(x, y, chosen)` gives those with the
    numbers `chosen` of an input and of a tensor with the output's shape: (groups, rows, inputs) and
    (groups, rows, outputs). `matrix(weight)` is (groups, outputs, inputs), `weight(matrix)` its
    inverse.
    """

    groups: int
    inputs: int
    outputs: int
    positions: int
    rows: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    matrix: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ports:
    """Which arguments of an op are its input, its weight and its bias (None: it has none), and
    which dimensions of the weight and of the output are its channels."""

    inputs: int
    weight: int
    bias: int | None
    output_dim: int
    channel_dim: int
    form: Callable[[tuple[Any, ...], Tensor, Tensor], Form]


_PORTS: dict[Any, Ports] = {}
FormOf = Callable[[tuple[Any, ...], Tensor, Tensor], Form]


def layer(
    *ops: Any, arguments: tuple[int, int, int | None], channels: tuple[int, int]
) -> Callable[[FormOf], FormOf]:
    """Register how ops are linear maps: `form(args, x, y)` from their arguments, an input and a
    tensor with the output's shape. `arguments` are the places of (input, weight, bias), `channels`
    the dimensions of channels of (weight, output). A second registration raises."""

    def register(function: FormOf) -> FormOf:
        for op in ops:
            if op in _PORTS:
                raise ValueError(f"{op} is registered already")
            _PORTS[op] = Ports(*arguments, *channels, function)
        return function

    return register


def ports(node: fx.Node) -> Ports | None:
    """The ports of a layer that reads its weight directly, None for any other node."""
    found = _PORTS.get(node.target)
    if found is None or len(node.args) <= found.weight:
        return None
    weight, source = node.args[found.weight], node.args[found.inputs]
    read = isinstance(weight, fx.Node) and weight.op == "get_attr" and isinstance(source, fx.Node)
    if found.bias is not None and len(node.args) > found.bias:
        bias = node.args[found.bias]
        read = read and (bias is None or (isinstance(bias, fx.Node) and bias.op == "get_attr"))
    return found if read and not node.kwargs else None


@layer(aten.linear.default, arguments=(0, 1, 2), channels=(0, -1))
def linear(args: tuple[Any, ...], x: Tensor, y: Tensor) -> Form:
    """(..., C_in) → (..., C_out) with a weight of (C_out, C_in)."""
    return _dense(x, y, turned=False)


@layer(aten.addmm.default, arguments=(1, 2, 0), channels=(1, -1))
def product_added(args: tuple[Any, ...], x: Tensor, y: Tensor) -> Form:
    """(N, C_in) → (N, C_out) with a weight of (C_in, C_out)."""
    return _dense(x, y, turned=True)


@layer(aten.mm.default, aten.matmul.default, arguments=(0, 1, None), channels=(1, -1))
def product(args: tuple[Any, ...], x: Tensor, y: Tensor) -> Form:
    """(..., C_in) → (..., C_out) with a weight of (C_in, C_out)."""
    return _dense(x, y, turned=True)


def _dense(x: Tensor, y: Tensor, *, turned: bool) -> Form:
    def rows(x: Tensor, y: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (t.reshape(len(t), -1, t.shape[-1])[:, chosen].flatten(0, 1) for t in (x, y))
        return a[None], b[None]

    def turn(matrix: Tensor) -> Tensor:
        return matrix.mT if turned else matrix

    positions = x[0].numel() // x.shape[-1]
    return Form(
        1, x.shape[-1], y.shape[-1], positions, rows,
        matrix=lambda weight: turn(weight)[None], weight=lambda matrix: turn(matrix[0]),
    )  # fmt: skip


@layer(
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
    arguments=(0, 1, 2), channels=(0, 1),
)  # fmt: skip
def convolution(args: tuple[Any, ...], x: Tensor, y: Tensor) -> Form:
    """(N, C_in, *) → (N, C_out, *): a row is the patch that one output position sees."""
    weight: Tensor = args[1]
    rank = weight.dim() - 2
    defaults: tuple[Any, ...] = (1, 0, 1, 1)
    stride, padding, dilation, groups = (*args[3:], *defaults[len(args[3:]) :])
    kernel = weight.shape[2:]
    strides, dilations = (_each(v, rank) for v in (stride, dilation))
    margins = _margins(padding, kernel, dilations)
    inside = weight.shape[1]

    def rows(x: Tensor, y: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x, margins) if any(margins) else x
        at = _patches(tuple(y.shape[2:]), tuple(padded.shape[2:]), kernel, (strides, dilations))
        patches = padded.flatten(2)[:, :, at[chosen].flatten()]
        # (N, g, C/g, P, K) → (g, N, P, C/g, K)
        patches = patches.view(len(x), groups, inside, len(chosen), -1).permute(1, 0, 3, 2, 4)
        outputs = y.flatten(2)[:, :, chosen].view(len(y), groups, -1, len(chosen))
        outputs = outputs.permute(1, 0, 3, 2)
        return patches.flatten(3).flatten(1, 2), outputs.flatten(1, 2)

    return Form(
        groups, weight[0].numel(), weight.shape[0] // groups, math.prod(y.shape[2:]), rows,
        matrix=lambda w: w.reshape(groups, w.shape[0] // groups, -1),
        weight=lambda matrix: matrix.reshape(-1, inside, *kernel),
    )  # fmt: skip


def _each(value: Any, rank: int) -> list[int]:
    """A setting per dimension; one number, or a list of one, holds for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _margins(padding: Any, kernel: torch.Size, dilations: list[int]) -> list[int]:
    """Padding as F.pad wants it: the last dimension first, before and after."""
    rank = len(kernel)
    if padding == "valid":
        sides = [(0, 0)] * rank
    elif padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(p, p) for p in _each(padding, rank)]
    return [margin for side in reversed(sides) for margin in side]


def _patches(
    out: tuple[int, ...],
    padded: tuple[int, ...],
    kernel: torch.Size,
    steps: tuple[list[int], list[int]],
) -> Tensor:
    """The flat index in the padded input of every (output position, kernel position)."""
    found = torch.zeros((), dtype=torch.int64)
    for size, wide, k, stride, dilation in zip(out, padded, kernel, *steps, strict=True):
        here = torch.arange(size)[:, None] * stride + torch.arange(k)[None, :] * dilation
        outer = found.view(*found.shape, 1, 1) * wide + here
        # (positions…, kernel…) of the dimensions so far, kept apart
        done = found.dim() // 2
        order = [*range(done), 2 * done, *range(done, 2 * done), 2 * done + 1]
        found = outer.permute(order)
    done = found.dim() // 2
    return found.reshape(math.prod(found.shape[:done]), -1)
