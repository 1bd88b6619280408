"""Attention as people write it by hand: ways to project, to attend, and to put heads together.

Every style is a module over tokens (N, T, C) → (N, T, C). `PROJECTIONS` give queries, keys and
values as (N, H, T, D); `CORES` attend over those. What fits neither table is a class of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, TOKENS = 24, 3, 9
INSIDE = WIDTH // HEADS

Heads = tuple[Tensor, Tensor, Tensor]


def heads_of(x: Tensor, heads: int = HEADS) -> Tensor:
    """(N, T, H D) → (N, H, T, D)"""
    n, t, _ = x.shape
    return x.view(n, t, heads, -1).transpose(1, 2)


class Projection(nn.Module):
    """One linear layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)


class Permuted(Projection):
    def forward(self, x: Tensor) -> Heads:
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]


class Unbound(Projection):
    def forward(self, x: Tensor) -> Heads:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, HEADS, INSIDE).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class Unflattened(Projection):
    def forward(self, x: Tensor) -> Heads:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, INSIDE)).movedim(2, 0)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class Chunked(Projection):
    def forward(self, x: Tensor) -> Heads:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return heads_of(q), heads_of(k), heads_of(v)


class SplitUp(Projection):
    def forward(self, x: Tensor) -> Heads:
        q, k, v = self.qkv(x).split(WIDTH, dim=2)
        return heads_of(q), heads_of(k), heads_of(v)


class HeadsFirst(Projection):
    """The three lie side by side inside of every head."""

    def forward(self, x: Tensor) -> Heads:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, HEADS, 3 * INSIDE).transpose(1, 2).chunk(3, dim=-1)
        return q, k, v


class HeadsFirstFiveDims(Projection):
    def forward(self, x: Tensor) -> Heads:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, HEADS, 3, INSIDE).permute(3, 0, 2, 1, 4)
        return q, k, v


class Separate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Heads:
        return heads_of(self.q(x)), heads_of(self.k(x)), heads_of(self.v(x))


class KeysWithValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH)
        self.kv = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> Heads:
        n, t, _ = x.shape
        k, v = self.kv(x).reshape(n, t, 2, HEADS, INSIDE).permute(2, 0, 3, 1, 4).unbind(0)
        return heads_of(self.q(x)), k, v


class WeightsSliced(nn.Module):
    """One weight, cut before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH) * 0.2)
        self.bias = nn.Parameter(torch.randn(3 * WIDTH) * 0.2)

    def forward(self, x: Tensor) -> Heads:
        pieces = zip(self.weight.chunk(3), self.bias.chunk(3), strict=True)
        q, k, v = (heads_of(F.linear(x, w, b)) for w, b in pieces)
        return q, k, v


class Convolved(nn.Module):
    """A 1x1 convolution over a map, heads taken from its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(WIDTH, 3 * WIDTH, 1)

    def forward(self, x: Tensor) -> Heads:
        n, t, c = x.shape
        side = math.isqrt(t)
        made = self.qkv(x.transpose(1, 2).reshape(n, c, side, side)).flatten(2)
        q, k, v = (p.view(n, HEADS, -1, t).transpose(2, 3) for p in made.chunk(3, 1))
        return q, k, v


class Normed(Separate):
    """A norm over the width of each head, of queries and keys."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.q_norm, self.k_norm = norm(INSIDE), norm(INSIDE)

    def forward(self, x: Tensor) -> Heads:
        q, k, v = super().forward(x)
        return self.q_norm(q), self.k_norm(k), v


class UnitLength(Separate):
    """Cosine attention with a learned temperature for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(HEADS, 1, 1) + 1)

    def forward(self, x: Tensor) -> Heads:
        q, k, v = super().forward(x)
        return F.normalize(q, dim=-1) * self.temperature.clamp(max=100), F.normalize(k, dim=-1), v


class Rotary(Separate):
    """Positions turn pairs of channels; `interleaved` pairs neighbours, else halves."""

    def __init__(self, interleaved: bool = False) -> None:
        super().__init__()
        self.interleaved = interleaved
        rates = 10 ** -torch.linspace(0, 1, INSIDE // 2)
        angles = torch.arange(TOKENS)[:, None] * rates
        angles = angles.repeat_interleave(2, 1) if interleaved else torch.cat([angles, angles], 1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def turned(self, x: Tensor) -> Tensor:
        if self.interleaved:
            half = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        else:
            a, b = x.chunk(2, dim=-1)
            half = torch.cat([-b, a], dim=-1)
        return x * self.cos + half * self.sin

    def forward(self, x: Tensor) -> Heads:
        q, k, v = super().forward(x)
        return self.turned(q), self.turned(k), v


class Grouped(nn.Module):
    """Several heads of queries share one of keys and values; `way` is how those are repeated."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.q = nn.Linear(WIDTH, 4 * INSIDE)
        self.k = nn.Linear(WIDTH, 2 * INSIDE)
        self.v = nn.Linear(WIDTH, 2 * INSIDE)
        self.out = nn.Linear(4 * INSIDE, WIDTH)

    def repeated(self, x: Tensor) -> Tensor:
        if self.way == "interleave":
            return x.repeat_interleave(2, dim=1)
        if self.way == "expand":
            n, heads, t, d = x.shape
            return x[:, :, None].expand(n, heads, 2, t, d).reshape(n, heads * 2, t, d)
        return x

    def forward(self, x: Tensor) -> Tensor:
        q = heads_of(self.q(x), 4)
        k, v = (self.repeated(heads_of(made, 2)) for made in (self.k(x), self.v(x)))
        if self.way == "grouped queries":
            n, _, t, d = q.shape
            q = q.view(n, 2, 2, t, d)
            x = (q @ k[:, :, None].mT * d**-0.5).softmax(-1) @ v[:, :, None]
            x = x.flatten(1, 2)
        else:
            x = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.way == "gqa")
        return self.out(x.transpose(1, 2).flatten(2))


# --- attending -----------------------------------------------------------------------------------


class Core(nn.Module):
    """Attention over (N, H, T, D)."""


class Fused(Core):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Scaled(Core):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=0.3)


class Causal(Core):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Masked(Core):
    """A bias for every pair of positions of every head, and a mask of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, HEADS, TOKENS, TOKENS))
        self.register_buffer("allowed", torch.rand(TOKENS, TOKENS) > -1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = self.bias.masked_fill(~self.allowed, float("-inf"))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class Manual(Core):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.softmax(dim=-1) @ v


class Lower(Core):
    """By hand, with a triangle of ones kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lower", torch.tril(torch.ones(TOKENS, TOKENS))[None, None])

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        t = q.size(-2)
        scores = (q @ k.mT) / math.sqrt(k.size(-1))
        scores = scores.masked_fill(self.lower[:, :, :t, :t] == 0, float("-inf"))
        return F.dropout(F.softmax(scores, dim=-1), 0.1, self.training) @ v


class Einsum(Core):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("b h i d, b h j d -> b h i j", q * INSIDE**-0.5, k)
        return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)


class EinsumByToken(Core):
    """Einsum over (N, T, H, D)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        weights = torch.einsum("bihd,bjhd->bhij", q, k).div(INSIDE**0.5).softmax(-1)
        return torch.einsum("bhij,bjhd->bihd", weights, v).transpose(1, 2)


class Batched(Core):
    """Batch and heads as one dimension."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, h, t, d = q.shape
        q, k, v = (x.reshape(n * h, t, d) for x in (q, k, v))
        scores = torch.bmm(q * d**-0.5, k.transpose(1, 2))
        return torch.bmm(F.softmax(scores, dim=-1), v).view(n, h, t, d)


class Baddbmm(Core):
    """As `Batched`, a table of scores added in the same call."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, TOKENS, TOKENS))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, h, t, d = q.shape
        q, k, v = (x.reshape(-1, t, d) for x in (q, k, v))
        scores = torch.baddbmm(self.table, q, k.mT, alpha=d**-0.5)
        return torch.bmm(scores.softmax(-1), v).view(n, h, t, d)


class Talking(Core):
    """Heads are mixed before and after the softmax (Shazeer et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(HEADS, HEADS)
        self.after = nn.Linear(HEADS, HEADS)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q * INSIDE**-0.5) @ k.mT
        scores = self.before(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        return self.after(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v


class TalkingByConvolution(Core):
    """As `Talking`, a 1x1 convolution over the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(HEADS, HEADS, 1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.mix(q @ k.mT).softmax(-1) @ v


class Channels(Core):
    """Channels attend to each other, not positions (El-Nouby et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(-2, -1) for x in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return ((q @ k.mT * self.temperature).softmax(-1) @ v).transpose(-2, -1)


class Linearised(Core):
    """Kernel features in place of the softmax (Katharopoulos et al. 2020)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = F.elu(q) + 1, F.elu(k) + 1
        context = k.mT @ v
        norm = 1 / (q @ k.sum(-2, keepdim=True).mT)
        return (q @ context) * norm


class Sinks(Core):
    """A learned key and value that every query sees."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Parameter(torch.randn(1, HEADS, 1, INSIDE))
        self.value = nn.Parameter(torch.randn(1, HEADS, 1, INSIDE))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = q.size(0)
        k = torch.cat([self.key.expand(n, -1, -1, -1), k], dim=2)
        v = torch.cat([self.value.expand(n, -1, -1, -1), v], dim=2)
        return F.scaled_dot_product_attention(q, k, v)


PROJECTIONS: dict[str, Callable[[], nn.Module]] = {
    **{p.__name__: p for p in (Permuted, Unbound, Unflattened, Chunked, SplitUp, HeadsFirst)},
    **{p.__name__: p for p in (HeadsFirstFiveDims, Separate, KeysWithValues, WeightsSliced)},
    "Convolved": Convolved,
    "LayerNorm": lambda: Normed(nn.LayerNorm),
    "RMSNorm": lambda: Normed(nn.RMSNorm),
    "UnitLength": UnitLength,
    "Rotary": Rotary,
    "RotaryInterleaved": lambda: Rotary(interleaved=True),
}
CORES: dict[str, Callable[[], nn.Module]] = {
    core.__name__: core
    for core in (
        Fused, Scaled, Causal, Masked, Manual, Lower, Einsum, EinsumByToken, Batched, Baddbmm,
        Talking, TalkingByConvolution, Channels, Linearised, Sinks,
    )
}  # fmt: skip


class Attention(nn.Module):
    """A projection, a core, heads side by side, and a linear layer."""

    def __init__(self, projection: str, core: str) -> None:
        super().__init__()
        self.project, self.core = PROJECTIONS[projection](), CORES[core]()
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        made = self.core(*self.project(x))
        return self.out(made.transpose(1, 2).reshape(n, t, -1))


class Around(nn.Module):
    """An attention inside of a network: a stem before it, a shortcut beside it, a head after."""

    def __init__(self, attention: nn.Module, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Linear(5, width)
        self.attn = attention
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.attn(x))
