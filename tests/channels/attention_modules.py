"""Whole attention modules with things of their own: torch's, windows, tables, tokens, masks."""

from __future__ import annotations

import torch
from attention_styles import HEADS, INSIDE, TOKENS, WIDTH, heads_of
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2


class Torchs(nn.Module):
    """`nn.MultiheadAttention` over its own tokens, with whatever options."""

    def __init__(self, *, needs_weights: bool = False, **options: bool) -> None:
        super().__init__()
        self.needs_weights = needs_weights
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **options)

    def forward(self, x: Tensor) -> Tensor:
        first = self.attention.batch_first
        x = x if first else x.transpose(0, 1)
        made, weights = self.attention(x, x, x, need_weights=self.needs_weights)
        made = made if first else made.transpose(0, 1)
        return made if weights is None else made + weights.mean((1, 2), keepdim=True)


class Cross(nn.Module):
    """`nn.MultiheadAttention` to memories of other widths."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(5, 14)
        self.values = nn.Linear(5, 10)
        self.stem = nn.Linear(5, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=14, vdim=10, batch_first=True)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        made, _ = self.attention(self.stem(x), self.keys(memory), self.values(memory))
        return self.head(made)


class Padded(nn.Module):
    """`nn.MultiheadAttention` with a mask of padded keys."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0])


class PaddedByHand(nn.Module):
    """The same with scores filled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = heads_of(self.q(x)), heads_of(self.k(x)), heads_of(self.v(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / INSIDE**0.5
        scores = scores.masked_fill(padding[:, None, None, :], torch.finfo(scores.dtype).min)
        return self.head((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """torch's own encoder, a token of the class, and a table of positions."""

    def __init__(self, first: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.stem = nn.Linear(5, WIDTH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, TOKENS + 1, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 32, dropout=0.1, batch_first=batch_first, norm_first=first
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], dim=1) + self.positions
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.layers(x)
        return self.head(x[:, 0] if self.batch_first else x[0])


class Decoder(nn.Module):
    """torch's own decoder, with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, WIDTH)
        self.stem = nn.Linear(5, WIDTH)
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 32, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, 1)
        self.head = nn.Linear(WIDTH, 11)

    def forward(self, words: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(words.size(1)).to(memory.dtype)
        made = self.layers(self.words(words), self.stem(memory), tgt_mask=mask, tgt_is_causal=True)
        return self.head(made)


class Windowed(nn.Module):
    """Windows of a map, rolled, with a table of relative positions (Liu et al. 2021)."""

    def __init__(self, side: int = 4, window: int = 2, shift: int = 1) -> None:
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, HEADS))
        axis = torch.arange(window)
        at = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
        apart = (at[:, :, None] - at[:, None, :]) + window - 1
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1])
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        s, w = self.side, self.window
        x = self.norm(x).view(n, s, s, c).roll((-self.shift, -self.shift), (1, 2))
        x = x.view(n, s // w, w, s // w, w, c).transpose(2, 3).reshape(-1, w * w, c)
        qkv = self.qkv(x).reshape(x.shape[0], w * w, 3, HEADS, INSIDE).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        bias = self.table[self.index.view(-1)].view(w * w, w * w, -1).permute(2, 0, 1)
        scores = (q * INSIDE**-0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        x = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, w * w, c))
        x = x.view(n, s // w, s // w, w, w, c).transpose(2, 3).reshape(n, s, s, c)
        return x.roll((self.shift, self.shift), (1, 2)).view(n, t, c)


class Torchvisions(nn.Module):
    """torchvision's own windowed attention, of either version."""

    def __init__(self, version: int, shift: int = 0) -> None:
        super().__init__()
        made = {1: ShiftedWindowAttention, 2: ShiftedWindowAttentionV2}[version]
        self.attention = made(WIDTH, [2, 2], [shift, shift], HEADS)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x.unflatten(1, (4, 4))).flatten(1, 2)


class Pooled(nn.Module):
    """Learned queries pool the tokens into a few (Lee et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q = heads_of(self.q(self.seeds)).expand(x.size(0), -1, -1, -1)
        made = F.scaled_dot_product_attention(q, heads_of(self.k(x)), heads_of(self.v(x)))
        return self.out(made.transpose(1, 2).flatten(2)).mean(1, keepdim=True)


class Conditioned(nn.Module):
    """Keys and values from a map that a strided convolution made smaller (Wang et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.smaller = nn.Conv2d(WIDTH, WIDTH, 2, stride=2)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        few = x.permute(0, 2, 1).reshape(n, c, 4, 4)
        few = self.norm(self.smaller(few).reshape(n, c, -1).permute(0, 2, 1))
        kv = self.kv(few).reshape(n, -1, 2, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q = self.q(x).reshape(n, t, HEADS, c // HEADS).permute(0, 2, 1, 3)
        scores = (q @ kv[0].transpose(-2, -1)) * INSIDE**-0.5
        return self.out((scores.softmax(dim=-1) @ kv[1]).transpose(1, 2).reshape(n, t, c))
