"""Ops that move elements: cut, put together, shuffle, repeat, pad, write in place, slide."""

from __future__ import annotations

import pytest
import torch
from between import WIDE, Case, run
from torch import Tensor, nn
from torch.nn import functional as F

HALF = WIDE // 2


def assigned(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 2:6] = x[:, 6:10]
    return x


def assigned_in_the_middle(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :HALF, 2:4, 1:7] *= 2
    x[:, 3] = 0
    x[:, 5:7].add_(1)
    return x


def shifted_in_time(x: Tensor) -> Tensor:
    """Some channels come from one row earlier, some from one later (Lin et al. 2019)."""
    made = torch.zeros_like(x)
    made[:, :3, :-1] = x[:, :3, 1:]
    made[:, 3:6, 1:] = x[:, 3:6, :-1]
    made[:, 6:] = x[:, 6:]
    return made


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)


def through_a_view(x: Tensor) -> Tensor:
    x = x * 1
    view = x[:, :4]
    F.relu_(view)
    return x + view.mean(1, keepdim=True).mul(0)


def reversed_pieces(*pieces: Tensor) -> Tensor:
    return torch.cat(pieces[::-1], 1)


def turned_table(x: Tensor) -> Tensor:
    """A table of numbers that stays: every third channel by its number."""
    return x[:, [0, 4, 8]]


CASES = {
    "view and back": Case(lambda x: x.view(-1, WIDE, 64).view(-1, WIDE, 8, 8)),
    "permuted": Case(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
    "swapped": Case(lambda x: x.swapaxes(1, 3).swapdims(1, 3)),
    "moved": Case(lambda x: x.movedim(1, -1).movedim(-1, 1)),
    "halves": Case(lambda x: x[:, :HALF] * x[:, HALF:].sigmoid(), out=HALF, groups={"stem": HALF}),
    "chunks": Case(
        lambda x: x.chunk(2, 1)[0] * F.silu(x.chunk(2, 1)[1]), out=HALF, groups={"stem": HALF}
    ),
    "glu": Case(lambda x: F.glu(x, 1), out=HALF, groups={"stem": HALF}),
    "split": Case(lambda x: reversed_pieces(*x.split([2, 7, 3], 1))),
    "split evenly": Case(lambda x: reversed_pieces(*x.split(5, 1))),
    "tensor_split": Case(lambda x: reversed_pieces(*x.tensor_split(5, 1))),
    "tensor_split at": Case(lambda x: reversed_pieces(*x.tensor_split((2, 7), 1))),
    "summed parts": Case(
        lambda x: sum(x.unflatten(1, (3, 4)).unbind(1)), out=4, groups={"stem": 4}
    ),
    "every other": Case(lambda x: x[:, ::2] + x[:, 1::2], out=HALF, groups={"stem": HALF}),
    "every other position": Case(lambda x: x[:, :, ::2, 1::2]),
    "narrow": Case(lambda x: x.narrow(1, 2, 6), out=6, groups={"stem": 6, "stem#2": 6}),
    "stacked": Case(lambda x: torch.stack([x, x.flip(3)], 1).mean(1)),
    "stacked channels": Case(lambda x: torch.stack([x, -x], 2).flatten(1, 2), out=2 * WIDE),
    "beside itself": Case(lambda x: torch.cat([x, x.relu()], 1), out=2 * WIDE),
    "one channel for all": Case(
        lambda x: x + x.select(1, 3).unsqueeze(1), groups={"stem": WIDE - 1}, pinned="selected"
    ),
    "flipped": Case(lambda x: x.flip(1)),
    "flipped positions": Case(lambda x: x.flip((2, 3))),
    "rolled positions": Case(lambda x: x.roll((1, 2), (2, 3))),
    "rolled": Case(lambda x: x.roll(2, 1), pinned="rolled by a fixed distance"),
    "repeated": Case(lambda x: x.repeat(1, 2, 1, 1), out=2 * WIDE),
    "tiled": Case(lambda x: x.tile((1, 1, 2, 2))),
    "interleaved": Case(lambda x: x.repeat_interleave(2, 1), out=2 * WIDE),
    "expanded": Case(
        lambda x: x.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(1, 2), out=2 * WIDE
    ),
    "shuffled": Case(shuffled, groups={"stem": (WIDE, 3)}),
    "positions split before one": Case(
        lambda x: torch.cat([part * 2 for part in x.tensor_split([1], 3)], 3)
    ),
    "torch's shuffle": Case(
        lambda x, m: m(x), lambda: (nn.ChannelShuffle(3),), groups={"stem": (WIDE, 3)}
    ),
    "pixels": Case(lambda x: F.pixel_shuffle(x, 2), wide=24, out=6, groups={"stem": 6}),
    "pixels back": Case(lambda x: F.pixel_unshuffle(x, 2), wide=6, out=24),
    "assigned": Case(assigned, groups={"stem": 4, "stem#2": 4}),
    "assigned in the middle": Case(
        assigned_in_the_middle, groups={"stem": WIDE - 1}, pinned="a single channel is selected"
    ),
    "shifted in time": Case(shifted_in_time),
    "through a view": Case(through_a_view),
    "windows": Case(lambda x: F.unfold(x, 2).unflatten(2, (7, 7)), out=4 * WIDE),
    "windows and back": Case(lambda x: F.fold(F.unfold(x, 2), (8, 8), 2)),
    "sliding": Case(lambda x: x.unfold(2, 2, 2).mean(-1)),
    "sliding over channels": Case(
        lambda x: x.unfold(1, 3, 3).mean(-1), out=4, pinned="sliding windows"
    ),
    "padded": Case(lambda x: F.pad(x, (1, 1, 0, 2))),
    "padded channels": Case(
        lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)), out=15, groups={"stem": WIDE, "head": 3}
    ),
    "reflected": Case(lambda x: F.pad(x, (1, 1, 1, 1), "reflect")),
    "replicated": Case(lambda x: F.pad(x, (1, 1, 1, 1), "replicate")),
    "around": Case(lambda x: F.pad(x, (1, 1, 1, 1), "circular")),
    "by a table": Case(turned_table, out=3, pinned="looked up by number"),
    "by an index": Case(
        lambda x: x.index_select(1, torch.tensor([3, 1])), out=2, pinned="looked up by number"
    ),
    **{
        f"resized, {mode}": Case(lambda x, mode=mode: F.interpolate(x, scale_factor=2.0, mode=mode))
        for mode in ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
    },
    "resized, smooth": Case(
        lambda x: F.interpolate(x, size=(5, 5), mode="bilinear", antialias=True)
    ),
    "resized like": Case(lambda x: F.interpolate(x, size=x.shape[2:], mode="nearest")),
    "sampled": Case(
        lambda x, m: F.grid_sample(x, m(x).permute(0, 2, 3, 1).tanh(), align_corners=False),
        lambda: (nn.Conv2d(WIDE, 2, 1),),
    ),
    "pooled to three": Case(lambda x: F.adaptive_avg_pool2d(x, 3)),
    "largest of three": Case(lambda x: F.adaptive_max_pool2d(x, 3)),
    "pooled by norm": Case(lambda x: F.lp_pool2d(x, 2, 2)),
    "pooled and back": Case(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    "triangle": Case(lambda x: x.tril(1)),
}


@pytest.mark.parametrize("name", CASES)
def test_movement(name: str) -> None:
    run(CASES[name])
