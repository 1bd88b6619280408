"""The output shape of a kernel from its key: the little shape arithmetic that kernels need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeprune.records import KernelKey

Shape = tuple[int, ...]
_Rule = Callable[[tuple[Shape, ...], Mapping[str, Any]], Shape]
_RULES: dict[str, _Rule] = {}


def output_shape(key: KernelKey) -> Shape:
    """The shape that `key` writes, in the model's own order (N C H W for images).

    Ops without a rule of their own keep their inputs' broadcast shape.
    """
    rule = _RULES.get(key.op, _broadcast)
    return rule(key.shapes, dict(key.attrs))


def rule(*ops: str) -> Callable[[_Rule], _Rule]:
    """Registers the shape rule of `ops`; a second registration raises."""

    def register(function: _Rule) -> _Rule:
        for op in ops:
            if op in _RULES:
                raise ValueError(f"{op} has two shape rules")
            _RULES[op] = function
        return function

    return register


def window(size: int, pad: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Positions of a sliding window along one dimension; `pad` is both sides together."""
    return (size + pad - dilation * (kernel - 1) - 1) // stride + 1


@rule("conv", "dwconv", "max_pool", "avg_pool")
def _sliding(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    n, c, h, w = shapes[0]
    top, right, bottom, left = attrs["padding"]
    (kh, kw), (sh, sw) = attrs["kernel"], attrs["stride"]
    dh, dw = attrs.get("dilation", (1, 1))
    out = window(h, top + bottom, kh, sh, dh), window(w, left + right, kw, sw, dw)
    return (n, attrs.get("out_channels", c), *out)


@rule("conv_transpose")
def _transposed(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    n, _, h, w = shapes[0]
    top, right, bottom, left = attrs["padding"]
    (kh, kw), (sh, sw), (dh, dw) = attrs["kernel"], attrs["stride"], attrs["dilation"]
    ah, aw = attrs["output_padding"]
    height = (h - 1) * sh - top - bottom + dh * (kh - 1) + ah + 1
    width = (w - 1) * sw - left - right + dw * (kw - 1) + aw + 1
    return (n, attrs["out_channels"], height, width)


@rule("global_avg_pool")
def _global(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    return (*shapes[0][:2], 1, 1)


@rule("linear")
def _linear(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    return (*shapes[0][:-1], attrs["out_channels"])


@rule("bmm")
def _bmm(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    return (*shapes[0][:-1], shapes[1][-1])


@rule("cat")
def _cat(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    axis = attrs["axis"]
    total = sum(shape[axis] for shape in shapes)
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


@rule("transpose")
def _transpose(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    return tuple(shapes[0][d] for d in attrs["perm"])


@rule("pad", "slice")
def _given(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    return shapes[1]


def _broadcast(shapes: tuple[Shape, ...], attrs: Mapping[str, Any]) -> Shape:
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))
