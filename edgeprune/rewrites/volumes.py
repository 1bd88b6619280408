"""Clips (N, C, T, H, W) as images: neither XNNPACK nor ExecuTorch's own kernels run convolutions or
poolings in three dimensions, so that without these a program would not run at all.

What happens along time alone, or within each frame alone, is the same operator on other images:
time by place (T high, H * W wide), or every frame by itself. A convolution over both is the sum of
one convolution of frames for each of its steps in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite
from edgeprune.rewrites.pooling import each

aten = torch.ops.aten


@rewrite("convolution of clips", aten.conv3d.default)
def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    """(N, C, T, H, W), weight (O, C / groups, kT, kH, kW)."""
    if x.dim() != 5:
        return NotImplemented
    steps, pads, gaps = each(stride, 3), each(padding, 3), each(dilation, 3)
    n, _, length, height, width = x.shape
    taps = weight.shape[2]
    if list(weight.shape[3:]) == [1, 1] and steps[1:] == [1, 1] and pads[1:] == [0, 0]:
        image = x.reshape(n, x.shape[1], length, height * width)
        made = aten.conv2d.default(
            image, weight.squeeze(-1), bias, [steps[0], 1], [pads[0], 0], [gaps[0], 1], groups
        )
        return made.reshape(n, weight.shape[0], made.shape[2], height, width)
    frames = x.permute(0, 2, 1, 3, 4)
    if pads[0]:
        frames = torch.constant_pad_nd(frames, [0] * 6 + [pads[0]] * 2)
    number = (length + 2 * pads[0] - gaps[0] * (taps - 1) - 1) // steps[0] + 1
    total = None
    for tap in range(taps):
        first = tap * gaps[0]
        last = first + (number - 1) * steps[0]
        whole = (first, last, steps[0]) == (0, frames.shape[1] - 1, 1)
        seen = frames if whole else frames[:, first : last + 1 : steps[0]]
        made = aten.conv2d.default(
            seen.reshape(n * number, *seen.shape[2:]),
            weight[:, :, tap],
            bias if tap == 0 else None,
            steps[1:],
            pads[1:],
            gaps[1:],
            groups,
        )
        total = made if total is None else total + made
    assert total is not None
    return total.reshape(n, number, *total.shape[1:]).permute(0, 2, 1, 3, 4)


@rewrite("max pooling of clips", aten.max_pool3d.default)
def max_pool3d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Any:
    """The largest of each frame's windows, then of those along time."""
    if x.dim() != 5:
        return NotImplemented
    sizes, pads, gaps = each(kernel, 3), each(padding, 3), each(dilation, 3)
    steps = each(stride, 3) if stride else sizes

    def frames(y: Tensor) -> Any:
        return aten.max_pool2d.default(y, sizes[1:], steps[1:], pads[1:], gaps[1:], ceil_mode)

    def time(y: Tensor) -> Any:
        window = [sizes[0], 1], [steps[0], 1], [pads[0], 0], [gaps[0], 1]
        return aten.max_pool2d.default(y, *window, ceil_mode)

    return _one_by_one(x, frames, time)


@rewrite("average pooling of clips", aten.avg_pool3d.default)
def avg_pool3d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each frame's windows, then of those along time: what a window counts is the
    product of what it counts along each dimension."""
    if x.dim() != 5 or divisor_override:
        return NotImplemented
    sizes, pads = each(kernel, 3), each(padding, 3)
    steps = each(stride, 3) if stride else sizes
    how = ceil_mode, count_include_pad

    def frames(y: Tensor) -> Any:
        return aten.avg_pool2d.default(y, sizes[1:], steps[1:], pads[1:], *how)

    def time(y: Tensor) -> Any:
        return aten.avg_pool2d.default(y, [sizes[0], 1], [steps[0], 1], [pads[0], 0], *how)

    return _one_by_one(x, frames, time)


@rewrite("adaptive average pooling of clips", aten.adaptive_avg_pool3d.default)
def adaptive_avg_pool3d(x: Tensor, size: Sequence[int]) -> Any:
    """(N, C, T, H, W) → (N, C, *size): a mean where one element is left."""
    if x.dim() != 5:
        return NotImplemented
    want = each(size, 3)
    if want == [1, 1, 1]:
        return aten.mean.dim(x, [2, 3, 4], True)

    def frames(y: Tensor) -> Any:
        return aten.adaptive_avg_pool2d.default(y, want[1:])

    def time(y: Tensor) -> Any:
        return aten.adaptive_avg_pool2d.default(y, [want[0], y.shape[3]])

    return _one_by_one(x, frames, time)


@rewrite("batch norm of clips", aten._native_batch_norm_legit_no_training.default)
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    eps: float,
) -> Any:
    """A factor and a summand for each channel; of images, convolutions take them up."""
    if x.dim() != 5:
        return NotImplemented
    factor = torch.rsqrt(var + eps) * (1 if weight is None else weight)
    summand = (0 if bias is None else bias) - mean * factor
    made = x * factor.reshape(-1, 1, 1, 1) + summand.reshape(-1, 1, 1, 1)
    return made, mean.new_empty(0), mean.new_empty(0)


def _one_by_one(x: Tensor, frames: Any, time: Any) -> Tensor:
    """`frames` of every frame (N, C * T, H, W), then `time` of what that gives (N, C, T, H * W)."""
    n, channels, length = x.shape[:3]
    small = frames(x.reshape(n, channels * length, *x.shape[3:]))
    height, width = small.shape[2:]
    made = time(small.reshape(n, channels, length, height * width))
    result: Tensor = made.reshape(n, channels, made.shape[2], height, width)
    return result
