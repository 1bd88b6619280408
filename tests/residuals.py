"""Small networks with residual blocks of every kind, and networks that only look like it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 2, 1)
        self.up = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Basic(nn.Module):
    """Post-activation, with a gate inside; in place, as torchvision writes it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.gate = Gate(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.gate(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True))))
        out += x
        return F.relu(out)


class PreActivation(nn.Module):
    """Norm and activation come first; the branch is the first operand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(F.relu(self.norm(x))))) + x


class ResidualNet(nn.Module):
    """A projection, a strided shortcut without parameters, and blocks between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(Basic(8), PreActivation(8), Basic(8))
        self.wide = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.short = nn.Conv2d(8, 12, 1, stride=2)
        self.last = nn.Sequential(PreActivation(12), Basic(12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(torch.relu(self.stem(x)))
        x = self.last(torch.relu(self.wide(x) + self.short(x)))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Fused qkv, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, t, self.num_heads * self.head_dim))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, with layer scale on both and dropout on one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, 2)
        self.scale = nn.Parameter(torch.rand(width) + 0.5)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 3 * width)
        self.drop = nn.Dropout(0.1)
        self.gamma = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attn(self.norm1(x))
        return torch.add(x, self.drop(self.mlp(self.norm2(x)) * self.gamma), alpha=0.5)


class Transformer(nn.Module):
    """A vision transformer in miniature; the position table is no block."""

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width) for _ in range(depth)))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.layers(x).mean(1))


class Nested(nn.Module):
    """A block around two blocks, and two branches side by side on one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Sequential(PreActivation(8), PreActivation(8))
        self.out = nn.Conv2d(8, 8, 1)
        self.left = nn.Conv2d(8, 8, 1)
        self.right = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.out(self.inner(x))
        x = x + self.left(x) + torch.tanh(self.right(x))
        return self.head(x.mean((2, 3)))


class NoBlocks(nn.Module):
    """Sums that are no residual blocks: each says why."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 1)
        self.c = nn.Conv2d(8, 1, 1)
        self.d = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.a(x) + self.b(x)  # a projection
        x = x + self.c(x)  # one channel spread over eight
        x = x + 0.044715 * x.pow(3)  # no parameter
        x = torch.add(self.a(x), x, alpha=2.0)  # the shortcut is scaled
        y = self.b(x)
        z = x + torch.relu(y)  # what is inside the branch is read again below
        x = self.d(z) + z[:, :, ::2, ::2]  # the shortcut changes the shape
        return self.head(torch.cat([x.mean((2, 3)), y.mean((2, 3))], 1))
