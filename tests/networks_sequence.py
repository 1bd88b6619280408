"""Networks over tokens, sound, points, graphs and tables, as other people write them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

# --- language ------------------------------------------------------------------------------------


class CausalAttention(nn.Module):
    """Fused projections, a mask in a buffer."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.n_head, self.n_embd = heads, width
        mask = torch.tril(torch.ones(length, length)).view(1, 1, length, length)
        self.register_buffer("bias", mask)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        q = q.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        v = v.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = F.softmax(att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf")), dim=-1)
        return self.c_proj((att @ v).transpose(1, 2).contiguous().view(b, t, c))


class GptBlock(nn.Module):
    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, 2, length)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    """A decoder whose output layer is its embedding (Radford et al. 2019)."""

    def __init__(self, vocabulary: int = 11, width: int = 16, length: int = 12) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(length, width)
        self.h = nn.ModuleList(GptBlock(width, length) for _ in range(2))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor) -> Tensor:
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class RmsNorm(nn.Module):
    """Written out (Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def repeat_kv(x: Tensor, times: int) -> Tensor:
    b, heads, t, d = x.shape
    return x[:, :, None, :, :].expand(b, heads, times, t, d).reshape(b, heads * times, t, d)


class LlamaLayer(nn.Module):
    """Grouped queries, rotary positions, a gated MLP (Touvron et al. 2023)."""

    def __init__(self, width: int = 16, heads: int = 4, kv_heads: int = 2) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.gate_proj = nn.Linear(width, 40, bias=False)
        self.up_proj = nn.Linear(width, 40, bias=False)
        self.down_proj = nn.Linear(40, width, bias=False)
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width), RmsNorm(width)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = (r * cos + rotate_half(r) * sin for r in (q, k))
        k, v = (repeat_kv(r, self.heads // self.kv_heads) for r in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.input_layernorm(x), cos, sin)
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Llama(nn.Module):
    def __init__(self, vocabulary: int = 11, width: int = 16) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(LlamaLayer(width) for _ in range(2))
        self.norm = RmsNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("inv_freq", 1.0 / 100 ** (torch.arange(0, 4, 2) / 4))

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        x = self.embed_tokens(input_ids)
        freqs = torch.outer(torch.arange(input_ids.shape[1]).to(x.dtype), self.inv_freq)
        angles = torch.cat((freqs, freqs), dim=-1)
        for layer in self.layers:
            x = layer(x, angles.cos(), angles.sin())
        return {"logits": self.lm_head(self.norm(x)), "last_hidden_state": x}


class Bert(nn.Module):
    """Embeddings that are added, `nn.TransformerEncoder`, a pooler on the first token."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.word = nn.Embedding(13, width, padding_idx=0)
        self.position = nn.Embedding(10, width)
        self.kind = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            width, 2, 24, dropout=0.1, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler = nn.Linear(width, width)
        self.classifier = nn.Linear(width, 3)
        self.register_buffer("position_ids", torch.arange(10).expand((1, -1)))

    def forward(self, ids: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        x = self.word(ids) + self.kind(kinds) + self.position(self.position_ids[:, : ids.size(1)])
        x = self.encoder(self.norm(x))
        return x[:, 0], self.classifier(torch.tanh(self.pooler(x[:, 0])))


class BertSelfAttention(nn.Module):
    """Query, key and value by name; heads by a helper method."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_attention_heads = heads
        self.attention_head_size = width // heads
        self.all_head_size = heads * self.attention_head_size
        self.query = nn.Linear(width, self.all_head_size)
        self.key = nn.Linear(width, self.all_head_size)
        self.value = nn.Linear(width, self.all_head_size)
        self.dense = nn.Linear(self.all_head_size, width)
        self.norm = nn.LayerNorm(width)

    def _heads(self, x: Tensor) -> Tensor:
        shape = (*x.size()[:-1], self.num_attention_heads, self.attention_head_size)
        return x.view(shape).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self._heads(f(x)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.attention_head_size)
        probs = nn.functional.softmax(scores + (1.0 - mask[:, None, None, :]) * -10000.0, dim=-1)
        context = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
        context = context.view(*context.size()[:-2], self.all_head_size)
        return self.norm(self.dense(context) + x)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.layers = nn.ModuleList(BertSelfAttention() for _ in range(2))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class T5(nn.Module):
    """Relative position buckets, a bias per head, an inner width of its own (Raffel et al.)."""

    def __init__(self, width: int = 12, heads: int = 2, inner: int = 5) -> None:
        super().__init__()
        self.heads, self.inner = heads, inner
        self.embed = nn.Embedding(9, width)
        self.q = nn.Linear(width, heads * inner, bias=False)
        self.k = nn.Linear(width, heads * inner, bias=False)
        self.v = nn.Linear(width, heads * inner, bias=False)
        self.o = nn.Linear(heads * inner, width, bias=False)
        self.relative = nn.Embedding(8, heads)
        self.norm = RmsNorm(width)
        self.wi, self.wo = nn.Linear(width, 20), nn.Linear(20, width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        n, t, _ = x.shape
        place = torch.arange(t)
        bias = self.relative((place[None] - place[:, None]).abs().clamp(max=7))
        q, k, v = (f(self.norm(x)).view(n, -1, self.heads, self.inner).transpose(1, 2)
                   for f in (self.q, self.k, self.v))  # fmt: skip
        scores = torch.matmul(q, k.transpose(3, 2)) + bias.permute([2, 0, 1]).unsqueeze(0)
        out = torch.matmul(scores.softmax(-1), v).transpose(1, 2).contiguous()
        x = x + self.o(out.view(n, -1, self.heads * self.inner))
        return F.linear(x + self.wo(F.relu(self.wi(x))), self.embed.weight)


class Perceiver(nn.Module):
    """Latents that attend to the input, then to each other (Jaegle et al. 2021)."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.latents = nn.Parameter(torch.randn(6, width))
        self.norm_x, self.norm_l = nn.LayerNorm(7), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(7, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.self_attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.geglu, self.down = nn.Linear(width, 48), nn.Linear(24, width)
        self.head = nn.Linear(width, 3)

    def _split(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        return x.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3).reshape(b * self.heads, n, -1)

    def forward(self, data: Tensor) -> Tensor:
        b = data.shape[0]
        x = self.latents.unsqueeze(0).repeat(b, 1, 1)
        q = self.to_q(self.norm_l(x))
        k, v = self.to_kv(self.norm_x(data)).chunk(2, dim=-1)
        q, k, v = (self._split(t) for t in (q, k, v))
        att = torch.einsum("b i d, b j d -> b i j", q, k) * (x.shape[-1] // self.heads) ** -0.5
        out = torch.einsum("b i j, b j d -> b i d", att.softmax(dim=-1), v)
        n = out.shape[1]
        out = out.reshape(b, self.heads, n, -1).permute(0, 2, 1, 3).reshape(b, n, -1)
        x = x + self.to_out(out)
        x = x + self.self_attention(x, x, x, need_weights=False)[0]
        value, gate = self.geglu(x).chunk(2, dim=-1)
        return self.head((x + self.down(value * F.gelu(gate))).mean(dim=1))


class MixtureOfExperts(nn.Module):
    """Every expert runs; a softmax gate weighs them."""

    def __init__(self, width: int = 12, experts: int = 4) -> None:
        super().__init__()
        self.inp = nn.Linear(6, width)
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 20), nn.ReLU(), nn.Linear(20, width))
            for _ in range(experts)
        )
        self.w1 = nn.Parameter(torch.randn(experts, width, 16) * 0.3)
        self.w2 = nn.Parameter(torch.randn(experts, 16, width) * 0.3)
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        x = x + (weights.unsqueeze(-1) * outputs).sum(dim=1)
        hidden = F.gelu(torch.einsum("bd,edh->beh", x, self.w1))
        x = x + torch.einsum("beh,ehd,be->bd", hidden, self.w2, weights)
        return self.out(x)


# --- sound and series ----------------------------------------------------------------------------


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


class TemporalBlock(nn.Module):
    """Causal, dilated, with weight norm (Bai et al. 2018)."""

    def __init__(self, c_in: int, c_out: int, dilation: int) -> None:
        super().__init__()
        pad = 2 * dilation
        self.conv1 = weight_norm(nn.Conv1d(c_in, c_out, 3, padding=pad, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(c_out, c_out, 3, padding=pad, dilation=dilation))
        self.net = nn.Sequential(
            self.conv1, Chomp(pad), nn.ReLU(), nn.Dropout(0.2),
            self.conv2, Chomp(pad), nn.ReLU(), nn.Dropout(0.2),
        )  # fmt: skip
        self.downsample = nn.Conv1d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        res = x if self.downsample is None else self.downsample(x)
        return F.relu(self.net(x) + res)


class TemporalNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(*(TemporalBlock(c, 12, d) for c, d in ((4, 1), (12, 2))))
        self.linear = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class WaveNet(nn.Module):
    """Gated dilated convolutions; skips are summed (van den Oord et al. 2016)."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.causal = nn.Conv1d(1, 12, 2)
        self.filters = nn.ModuleList(nn.Conv1d(12, 10, 2, dilation=2**i) for i in range(layers))
        self.gates = nn.ModuleList(nn.Conv1d(12, 10, 2, dilation=2**i) for i in range(layers))
        self.residuals = nn.ModuleList(nn.Conv1d(10, 12, 1) for _ in range(layers))
        self.skips = nn.ModuleList(nn.Conv1d(10, 14, 1) for _ in range(layers))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(14, 16, 1), nn.ReLU(), nn.Conv1d(16, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, skip = self.causal(x), None
        for f, g, r, s in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
            z = torch.tanh(f(x)) * torch.sigmoid(g(x))
            out = s(z)
            skip = out if skip is None else out + skip[..., -out.size(-1) :]
            x = r(z) + x[..., -z.size(-1) :]
        return self.end(skip)


class Vocoder(nn.Module):
    """Transposed convolutions in 1d and residual stacks that are averaged (Kong et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_pre = weight_norm(nn.Conv1d(5, 24, 7, 1, padding=3))
        self.up = weight_norm(nn.ConvTranspose1d(24, 12, 8, 4, padding=2))
        self.blocks = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.Conv1d(12, 12, k, padding=k // 2)) for _ in range(2))
            for k in (3, 5)
        )
        self.conv_post = weight_norm(nn.Conv1d(12, 1, 7, 1, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(self.conv_pre(x), 0.1))
        total = None
        for block in self.blocks:
            h = x
            for conv in block:
                h = conv(F.leaky_relu(h, 0.1)) + h
            total = h if total is None else total + h
        return torch.tanh(self.conv_post(F.leaky_relu(total / len(self.blocks))))


class Conformer(nn.Module):
    """Half-step MLPs, a gated depthwise convolution, spectral norm at the end."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.subsample = nn.Conv2d(1, 8, 3, 2)
        self.inp = nn.Linear(8 * 5, width)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 32), nn.SiLU(), nn.Linear(32, width)
        )
        self.norm = nn.LayerNorm(width)
        self.pointwise1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, 5, padding=2, groups=width)
        self.bn = nn.BatchNorm1d(width)
        self.pointwise2 = nn.Conv1d(width, width, 1)
        self.out = spectral_norm(nn.Linear(width, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.subsample(x.unsqueeze(1)))
        b, c, t, f = x.size()
        x = self.inp(x.transpose(1, 2).contiguous().view(b, t, c * f))
        x = x + 0.5 * self.ffn(x)
        h = F.glu(self.pointwise1(self.norm(x).transpose(1, 2)), dim=1)
        x = x + self.pointwise2(F.silu(self.bn(self.depthwise(h)))).transpose(1, 2)
        return F.log_softmax(self.out(x), dim=-1)


class Crnn(nn.Module):
    """Columns of a feature map are read by a recurrent network (Shi et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(True), nn.MaxPool2d((4, 1)),
        )  # fmt: skip
        self.rnn = nn.LSTM(16, 10, bidirectional=True)
        self.embedding = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.cnn(x).squeeze(2).permute(2, 0, 1)
        recurrent, _ = self.rnn(conv)
        t, b, h = recurrent.size()
        return self.embedding(recurrent.view(t * b, h)).view(t, b, -1).transpose(0, 1)


# --- points, graphs, tables ----------------------------------------------------------------------


class Alignment(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.conv = nn.Conv1d(k, 16, 1)
        self.bn = nn.BatchNorm1d(16)
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, k * k)

    def forward(self, x: Tensor) -> Tensor:
        b = x.size()[0]
        x = F.relu(self.bn(self.conv(x)))
        x = torch.max(x, 2, keepdim=True)[0].view(-1, 16)
        x = self.fc2(F.relu(self.fc1(x)))
        iden = torch.eye(self.k).flatten().view(1, self.k * self.k).repeat(b, 1).to(x.dtype)
        return (x + iden).view(-1, self.k, self.k)


class PointNet(nn.Module):
    """Points are turned by matrices that a network makes, then pooled (Qi et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stn, self.fstn = Alignment(3), Alignment(8)
        self.conv1, self.conv2 = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 24, 1)
        self.bn = nn.BatchNorm1d(24)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.bmm(x.transpose(2, 1), self.stn(x)).transpose(2, 1)
        x = F.relu(self.conv1(x))
        trans = self.fstn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = torch.max(self.bn(self.conv2(x)), 2)[0]
        return F.log_softmax(self.fc(x), dim=1), trans


class GraphNet(nn.Module):
    """Two graph convolutions with a dense adjacency (Kipf & Welling 2017), and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 16) * 0.4)
        self.bias = nn.Parameter(torch.zeros(16))
        self.second = nn.Linear(16, 12)
        self.a = nn.Parameter(torch.randn(24, 1) * 0.3)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        x = F.relu(torch.matmul(adj, torch.matmul(x, self.weight)) + self.bias)
        h = self.second(x)
        first, second = torch.matmul(h, self.a[:12]), torch.matmul(h, self.a[12:])
        e = F.leaky_relu(first + second.transpose(1, 2), 0.2)
        e = torch.where(adj > 0.1, e, torch.full_like(e, -9e15))
        return self.out(F.elu(torch.matmul(torch.softmax(e, dim=2), h)).mean(1))


class Radiance(nn.Module):
    """Position encoding, a skip of the input into the middle (Mildenhall et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        width = 3 + 3 * 2 * 4
        self.first = nn.ModuleList([nn.Linear(width, 20), nn.Linear(20, 20)])
        self.second = nn.ModuleList([nn.Linear(20 + width, 20), nn.Linear(20, 20)])
        self.sigma, self.rgb = nn.Linear(20, 1), nn.Linear(20, 3)

    def forward(self, p: Tensor) -> Tensor:
        parts = [p]
        for i in range(4):
            parts += [torch.sin(2.0**i * p), torch.cos(2.0**i * p)]
        encoded = h = torch.cat(parts, -1)
        for layer in self.first:
            h = torch.relu(layer(h))
        h = torch.cat([encoded, h], -1)
        for layer in self.second:
            h = torch.relu(layer(h))
        return torch.cat([torch.sigmoid(self.rgb(h)), self.sigma(h)], -1)


class Recommender(nn.Module):
    """Embeddings and dense features, pairwise products, two towers (Naumov et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(9, 8) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 20), nn.ReLU(), nn.Linear(20, 1), nn.Sigmoid())
        self.wide = nn.Linear(4, 1)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        rows = [x, *(table(sparse[:, i]) for i, table in enumerate(self.tables))]
        t = torch.stack(rows, dim=1)
        z = torch.bmm(t, t.transpose(1, 2))
        li, lj = torch.tril_indices(4, 4, offset=-1)
        return self.top(torch.cat([x, z[:, li, lj]], dim=1)) + self.wide(dense)


class TableTransformer(nn.Module):
    """A token per column (Gorishniy et al. 2021)."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, width) * 0.5)
        self.bias = nn.Parameter(torch.zeros(5, width))
        self.cls = nn.Parameter(torch.randn(width))
        self.attention = nn.MultiheadAttention(width, 3, batch_first=True)
        self.reglu, self.down = nn.Linear(width, 32), nn.Linear(16, width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, :, None] * self.weight[None] + self.bias
        tokens = torch.cat([tokens, self.cls.expand(len(x), 1, -1)], dim=1)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        a, b = self.reglu(tokens).chunk(2, -1)
        return self.head((tokens + self.down(a * F.relu(b)))[:, -1])
