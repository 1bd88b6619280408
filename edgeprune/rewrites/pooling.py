"""Average pooling that XNNPACK does not take, as a depthwise convolution or as matrix products.

XNNPACK averages only what lies inside of the image and knows no rounding up; PyTorch's default
counts the padding, and a pooling that rounds up divides by what of each window it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeprune.rewrites.core import rewrite

aten = torch.ops.aten


@dataclass(frozen=True)
class Windows:
    """The windows of a pooling along one dimension of `length` elements."""

    length: int
    kernel: int
    stride: int
    padding: int
    number: int
    """How many there are."""

    @classmethod
    def of(cls, length: int, kernel: int, stride: int, padding: int, up: bool) -> Windows:
        """As PyTorch counts them: a last one, rounded `up` to, must start inside of the image."""
        free = length + 2 * padding - kernel
        number = (free + stride - 1) // stride + 1 if up else free // stride + 1
        if up and (number - 1) * stride >= length + padding:
            number -= 1
        return cls(length, kernel, stride, padding, number)

    @property
    def hang_over(self) -> int:
        """By how many elements the last window reaches past the padding."""
        reach = (self.number - 1) * self.stride + self.kernel
        return max(0, reach - self.length - 2 * self.padding)

    def counted(self, include_padding: bool) -> Tensor:
        """How many elements each window divides by."""
        first = torch.arange(self.number) * self.stride - self.padding
        last = (first + self.kernel).clamp(max=self.length + self.padding)
        if not include_padding:
            first, last = first.clamp(min=0), last.clamp(max=self.length)
        return last - first


@rewrite("average pooling", aten.avg_pool2d.default)
def avg_pool2d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """(N, C, H, W): a depthwise convolution with equal weights; where windows count different
    numbers of elements, their sums are divided by a constant (H_out, W_out)."""
    if x.dim() != 4:
        return NotImplemented
    sizes, pads = each(kernel, 2), each(padding, 2)
    steps = each(stride, 2) if stride else sizes
    rows, columns = (
        Windows.of(x.shape[2 + i], sizes[i], steps[i], pads[i], ceil_mode) for i in range(2)
    )
    over = rows.hang_over or columns.hang_over
    area = sizes[0] * sizes[1]
    taken = not over and not (count_include_pad and any(pads)) and divisor_override in (None, area)
    if taken:
        if not ceil_mode:
            return NotImplemented
        return aten.avg_pool2d.default(x, sizes, steps, pads, False, count_include_pad)
    equal = bool(divisor_override) or (not over and (count_include_pad or not any(pads)))
    if over:
        x = torch.constant_pad_nd(x, [0, columns.hang_over, 0, rows.hang_over])
    channels = x.shape[1]
    weight = 1 / (divisor_override or area) if equal else 1.0
    ones = torch.full((channels, 1, *sizes), weight, dtype=x.dtype)
    sums = aten.conv2d.default(x, ones, None, steps, pads, [1, 1], channels)
    if equal:
        return sums
    counts = torch.outer(rows.counted(count_include_pad), columns.counted(count_include_pad))
    return sums * torch.reciprocal(counts.to(x.dtype))


@rewrite("adaptive average pooling", aten.adaptive_avg_pool2d.default)
def adaptive_avg_pool2d(x: Tensor, size: Sequence[int]) -> Any:
    """(N, C, H, W) → (N, C, *size): a plain pooling, or a matrix product per dimension; a mean,
    to one pixel, is what the compiler makes of it by itself."""
    have, want = list(x.shape[2:]), each(size, 2)
    if x.dim() != 4 or want == [1, 1]:
        return NotImplemented
    if have == want:
        return x.view(x.shape)
    if not (have[0] % want[0] or have[1] % want[1]):
        kernel = [have[0] // want[0], have[1] // want[1]]
        return aten.avg_pool2d.default(x, kernel, kernel)
    x = aten.linear.default(x, _averages(have[1], want[1], x.dtype))
    x = aten.linear.default(x.transpose(2, 3), _averages(have[0], want[0], x.dtype))
    return x.transpose(2, 3)


@rewrite("adaptive average pooling", aten.adaptive_avg_pool1d.default)
def adaptive_avg_pool1d(x: Tensor, size: Sequence[int]) -> Any:
    """(N, C, L): as an image one pixel high."""
    if x.dim() != 3:
        return NotImplemented
    shape = (*x.shape[:2], size[0])
    return aten.adaptive_avg_pool2d.default(x.unsqueeze(2), [1, size[0]]).reshape(shape)


@rewrite("average pooling", aten.avg_pool1d.default)
def avg_pool1d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """(N, C, L): as an image one pixel high."""
    if x.dim() != 3:
        return NotImplemented
    step = (stride or kernel)[0]
    image = aten.avg_pool2d.default(
        x.unsqueeze(2), [1, kernel[0]], [1, step], [0, padding[0]], ceil_mode, count_include_pad
    )
    return image.reshape(*x.shape[:2], image.shape[-1])


def _averages(have: int, want: int, dtype: torch.dtype) -> Tensor:
    """(want, have): row i averages the i-th of `want` nearly equal stretches, as PyTorch cuts."""
    i = torch.arange(want)
    first, last = i * have // want, ((i + 1) * have + want - 1) // want
    place = torch.arange(have)
    inside = (place >= first[:, None]) & (place < last[:, None])
    return inside.to(dtype) / (last - first)[:, None].to(dtype)


def each(value: Sequence[int], number: int) -> list[int]:
    """One value for each of `number` dimensions, where a single one stands for all of them."""
    return list(value) * number if len(value) == 1 else list(value)
