"""Multiply-accumulates of one kernel, from its key."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from edgeprune.cost.shapes import output_shape
from edgeprune.records import KernelKey

_RULES: dict[str, Callable[[KernelKey], int]] = {}


def rule(*ops: str) -> Callable[[Callable[[KernelKey], int]], Callable[[KernelKey], int]]:
    """Registers how the kernels called `ops` are counted; a second registration raises."""

    def register(function: Callable[[KernelKey], int]) -> Callable[[KernelKey], int]:
        for op in ops:
            if op in _RULES:
                raise ValueError(f"{op} is counted twice")
            _RULES[op] = function
        return function

    return register


def kernel_macs(key: KernelKey) -> int:
    """Multiply-accumulates of convolutions and matrix products; 0 for all else.

    That is PyTorch's flop count, halved, plus the norms that no convolution took in: the
    runtime computes them as depthwise convolutions.
    """
    counted = _RULES.get(key.op)
    return counted(key) if counted is not None and key.shapes else 0


@rule("conv", "dwconv")
def _convolution(key: KernelKey) -> int:
    attrs = dict(key.attrs)
    inputs = key.shapes[0][1] // int(attrs["groups"])
    return prod(output_shape(key)) * inputs * int(prod(attrs["kernel"]))


@rule("conv_transpose")
def _transposed(key: KernelKey) -> int:
    attrs = dict(key.attrs)
    outputs = int(attrs["out_channels"]) // int(attrs["groups"])
    return prod(key.shapes[0]) * outputs * int(prod(attrs["kernel"]))


@rule("linear")
def _linear(key: KernelKey) -> int:
    return prod(key.shapes[0]) * int(dict(key.attrs)["out_channels"])


@rule("bmm")
def _product(key: KernelKey) -> int:
    return prod(key.shapes[0]) * key.shapes[1][-1]
