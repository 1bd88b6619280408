"""A kernel by its key → a TOSA program of that kernel alone."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from edgeprune.cost.tosa import Tensor, TosaProgram
from edgeprune.records import KernelKey

Attrs = dict[str, Any]
_BUILDERS: dict[str, Callable[[TosaProgram, KernelKey, Attrs], Tensor]] = {}
_NHWC = (0, 2, 3, 1)
_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL"}
_TABLES = ("sigmoid", "tanh", "gelu", "hardswish", "exp", "sqrt", "rsqrt", "log", "square", "abs")


def _kernel(*ops: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        for op in ops:
            if op in _BUILDERS:
                raise ValueError(f"kernel {op!r} has two builders")
            _BUILDERS[op] = function
        return function

    return register


def can_build(key: KernelKey) -> bool:
    """Whether `tosa_of` knows the kernel."""
    return key.op in _BUILDERS


def tosa_of(key: KernelKey) -> bytes:
    """The kernel in int8 on inputs of its own; of a grouped convolution one group (see `times`).

    Raises KeyError for a kernel that `can_build` does not know.
    """
    program = TosaProgram()
    return program.finished(_BUILDERS[key.op](program, key, dict(key.attrs)))


def times(key: KernelKey) -> int:
    """How often the program of `tosa_of` makes up the kernel: TOSA has no grouped convolution, and
    Arm's lowering cuts one into its groups."""
    attrs = dict(key.attrs)
    return int(attrs["groups"]) if key.op == "conv" else 1


@_kernel("conv", "dwconv")
def _conv(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    ((_, c_in, high, wide),), c_out = key.shapes, attrs["out_channels"]
    kernel, stride, dilation = attrs["kernel"], attrs["stride"], attrs["dilation"]
    top, right, bottom, left = attrs["padding"]
    # TOSA wants windows to end where the image does: what would be left over is not there.
    high -= (high + top + bottom - dilation[0] * (kernel[0] - 1) - 1) % stride[0]
    wide -= (wide + left + right - dilation[1] * (kernel[1] - 1) - 1) % stride[1]
    out = (
        (high + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1,
        (wide + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1,
    )
    depthwise = key.op == "dwconv"
    if depthwise:
        weight = program.weight((*kernel, c_in, c_out // c_in))
    else:
        c_in, c_out = c_in // attrs["groups"], c_out // attrs["groups"]
        weight = program.weight((c_out, *kernel, c_in))
    found = program.op(
        "DEPTHWISE_CONV2D" if depthwise else "CONV2D",
        [
            program.input((1, high, wide, c_in)),
            weight,
            program.const(np.zeros(c_out, np.int32), "INT32"),
            program.zero(),
            program.zero(),
        ],
        (1, *out, c_out),
        wide=True,
        pad=[top, bottom, left, right],
        stride=list(stride),
        dilation=list(dilation),
        local_bound=False,
        acc_type=program.ts.DType.INT32,
    )
    return program.rescale(found)


@_kernel("linear")
def _linear(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    """A pointwise convolution over its rows."""
    (*rows, c_in), point = key.shapes[0], (1, 1)
    same = KernelKey("conv", ((1, c_in, 1, prod(rows)),))
    more = {"kernel": point, "stride": point, "dilation": point, "padding": (0, 0, 0, 0)}
    found: Tensor = _conv(program, same, {**attrs, **more, "groups": 1})
    return found


@_kernel(*_BINARY)
def _binary(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    """Both operands to int32, the operator, and back."""
    shapes = [_image(shape) for shape in key.shapes]
    operands = [program.rescale(program.input(shape), wide=True) for shape in shapes]
    if key.op == "mul":
        operands.append(program.const(np.zeros(1, np.int8), "INT8"))  # its shift
    out = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    return program.rescale(program.op(_BINARY[key.op], operands, out, wide=True))


@_kernel("clamp")
def _clamp(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    """In int8 it is a change of scale, which saturates."""
    return program.rescale(program.input(_image(key.shapes[0])))


@_kernel(*_TABLES)
def _table(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    """Any function of one int8 value is a table of 256."""
    x = program.input(_image(key.shapes[0]))
    table = program.const(np.arange(-128, 128).astype(np.int8), "INT8")
    return program.op("TABLE", [x, table], x.shape, wide=False)


@_kernel("max_pool", "avg_pool", "global_avg_pool")
def _pool(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    ((_, channels, high, wide),) = key.shapes
    kernel = attrs.get("kernel", (high, wide))
    stride, sides = attrs.get("stride", (1, 1)), attrs.get("padding", (0, 0, 0, 0))
    top, right, bottom, left = sides
    high -= (high + top + bottom - kernel[0]) % stride[0]
    wide -= (wide + left + right - kernel[1]) % stride[1]
    out = (
        (high + top + bottom - kernel[0]) // stride[0] + 1,
        (wide + left + right - kernel[1]) // stride[1] + 1,
    )
    x, largest = program.input((1, high, wide, channels)), key.op == "max_pool"
    kind: Attrs = (
        {"nan_mode": program.ts.NanPropagationMode.PROPAGATE}
        if largest
        else {"acc_type": program.ts.DType.INT32}
    )
    return program.op(
        "MAX_POOL2D" if largest else "AVG_POOL2D",
        [x] if largest else [x, program.zero(), program.zero()],
        (1, *out, channels),
        wide=False,
        kernel=list(kernel),
        stride=list(stride),
        pad=[top, bottom, left, right],
        **kind,
    )


@_kernel("transpose")
def _transpose(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    x = program.input(key.shapes[0])
    perm = list(attrs["perm"])
    return program.op("TRANSPOSE", [x], [x.shape[i] for i in perm], wide=False, perms=perm)


@_kernel("cat")
def _cat(program: TosaProgram, key: KernelKey, attrs: Attrs) -> Tensor:
    """Along the axis in which the operands differ, channels where they do not."""
    parts = [program.input(_image(shape)) for shape in key.shapes]
    first = parts[0].shape
    differ = [i for i in range(4) if len({x.shape[i] for x in parts}) > 1]
    axis = differ[0] if differ else 3
    shape = list(first)
    shape[axis] = sum(x.shape[axis] for x in parts)
    return program.op("CONCAT", parts, shape, wide=False, axis=axis)


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """N C H W → N H W C; fewer dimensions get ones before them."""
    if len(shape) == 4:
        return tuple(shape[i] for i in _NHWC)
    return (1,) * (4 - len(shape)) + tuple(shape)
