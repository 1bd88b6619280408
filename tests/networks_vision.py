"""Image networks as other people write them: encoders and decoders, detectors, generators."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class DoubleConv(nn.Sequential):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    """Upsampling, padding to the size of the skip, concatenation."""

    def __init__(self, c_in: int, c_out: int, bilinear: bool) -> None:
        super().__init__()
        if bilinear:
            self.up: nn.Module = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                nn.Conv2d(c_in, c_in // 2, 1),
            )
        else:
            self.up = nn.ConvTranspose2d(c_in, c_in // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(c_in, c_out)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = self.up(x1)
        dy, dx = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    """Encoder and decoder with concatenations (Ronneberger et al. 2015); inputs of odd size."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = DoubleConv(3, 8)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 16))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(16, 32))
        self.up1 = Up(32, 16, bilinear=False)
        self.up2 = Up(16, 8, bilinear=True)
        self.outc = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        return self.outc(self.up2(self.up1(x3, x2), x1))


class UNet3d(nn.Module):
    """A volume network with group norm and sums instead of concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.LeakyReLU(0.1)
        )
        self.enc2 = nn.Sequential(nn.Conv3d(8, 16, 3, 2, 1), nn.InstanceNorm3d(16, affine=True))
        self.mid = nn.Conv3d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose3d(16, 8, 2, stride=2)
        self.dec = nn.Sequential(nn.Conv3d(16, 8, 3, padding=1), nn.GroupNorm(1, 8), nn.ELU())
        self.out = nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc1(x)
        b = F.relu(self.enc2(a))
        b = b + self.mid(b)
        c = self.dec(torch.cat((self.up(b), a), 1))
        return torch.softmax(self.out(c), dim=1)


class SegNet(nn.Module):
    """Pooling indices are used to unpool (Badrinarayanan et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = DoubleConv(3, 8)
        self.b = DoubleConv(8, 12)
        self.c = DoubleConv(12, 8)
        self.d = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x, first = F.max_pool2d(self.a(x), 2, return_indices=True)
        x = self.c(self.b(x))
        return self.d(F.max_unpool2d(x, first, 2))


# --- detectors -----------------------------------------------------------------------------------


class CBS(nn.Module):
    """Convolution, norm, SiLU."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=0.001, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = CBS(c, c, 3), CBS(c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class C2f(nn.Module):
    """A split whose second half grows a list that is concatenated."""

    def __init__(self, c1: int, c2: int, n: int = 2) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1 = CBS(c1, 2 * self.c)
        self.cv2 = CBS((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck(self.c) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = CBS(c, c // 2), CBS(c // 2 * 4, c)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Detect(nn.Module):
    """Boxes as distributions over distances to an anchor point, decoded to pixels."""

    def __init__(self, channels: tuple[int, ...], classes: int = 3) -> None:
        super().__init__()
        self.nc, self.reg_max = classes, 4
        self.no = classes + self.reg_max * 4
        self.cv2 = nn.ModuleList(
            nn.Sequential(CBS(c, 8, 3), nn.Conv2d(8, 4 * self.reg_max, 1)) for c in channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(CBS(c, 8, 3), nn.Conv2d(8, self.nc, 1)) for c in channels
        )
        project = torch.arange(self.reg_max, dtype=torch.float).view(1, self.reg_max, 1, 1)
        self.dfl = nn.Conv2d(self.reg_max, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = project

    def forward(self, x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        x = [torch.cat((a(t), b(t)), 1) for a, b, t in zip(self.cv2, self.cv3, x, strict=True)]
        points, strides = [], []
        for i, t in enumerate(x):
            h, w = t.shape[-2:]
            sy, sx = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack((sx, sy), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), 8.0 * 2**i))
        anchors, stride = torch.cat(points).T[None], torch.cat(strides).T
        joined = torch.cat([t.view(t.shape[0], self.no, -1) for t in x], 2)
        box, cls = joined.split((self.reg_max * 4, self.nc), 1)
        b, _, a = box.shape
        dist = self.dfl(box.view(b, 4, self.reg_max, a).transpose(2, 1).softmax(1)).view(b, 4, a)
        lt, rb = dist.chunk(2, 1)
        boxes = torch.cat((anchors - lt, anchors + rb), 1) * stride
        return torch.cat((boxes, cls.sigmoid()), 1), x


class Yolo(nn.Module):
    """A one-stage detector with a two-level neck and a decoding head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(CBS(3, 8, 3, 2), CBS(8, 16, 3, 2))
        self.p3 = C2f(16, 16)
        self.down = CBS(16, 32, 3, 2)
        self.p4 = nn.Sequential(C2f(32, 32, 1), SPPF(32))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.n3 = C2f(48, 16, 1)
        self.n4 = C2f(48, 32, 1)
        self.back = CBS(16, 16, 3, 2)
        self.head = Detect((16, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(self.down(p3))
        n3 = self.n3(torch.cat([self.up(p4), p3], 1))
        n4 = self.n4(torch.cat([self.back(n3), p4], 1))
        return self.head([n3, n4])


class L2Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        x = torch.div(x, norm)
        return self.weight.unsqueeze(0).unsqueeze(2).unsqueeze(3).expand_as(x) * x


class SSD(nn.Module):
    """Heads on several maps, flattened behind a permutation (Liu et al. 2016)."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes = classes
        self.vgg = nn.ModuleList(
            [
                nn.Conv2d(3, 12, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, ceil_mode=True),
                nn.Conv2d(12, 16, 3, padding=6, dilation=6),
                nn.ReLU(inplace=True),
            ]
        )
        self.norm = L2Norm(16)
        self.extras = nn.ModuleList([nn.Conv2d(16, 8, 1), nn.Conv2d(8, 24, 3, 2, 1)])
        self.loc = nn.ModuleList([nn.Conv2d(16, 4 * 4, 3, 1, 1), nn.Conv2d(24, 6 * 4, 3, 1, 1)])
        self.conf = nn.ModuleList(
            [nn.Conv2d(16, 4 * classes, 3, 1, 1), nn.Conv2d(24, 6 * classes, 3, 1, 1)]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sources, loc, conf = [], [], []
        for layer in self.vgg:
            x = layer(x)
        sources.append(self.norm(x))
        for layer in self.extras:
            x = F.relu(layer(x), inplace=True)
        sources.append(x)
        for s, box, cls in zip(sources, self.loc, self.conf, strict=True):
            loc.append(box(s).permute(0, 2, 3, 1).contiguous())
            conf.append(cls(s).permute(0, 2, 3, 1).contiguous())
        boxes = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        scores = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        return (
            boxes.view(boxes.size(0), -1, 4),
            F.softmax(scores.view(scores.size(0), -1, self.classes), dim=-1),
        )


class FPN(nn.Module):
    """A top-down pyramid (Lin et al. 2017); an ordered dictionary comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.c2 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.c3 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.c4 = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU())
        self.inner = nn.ModuleList(nn.Conv2d(c, 12, 1) for c in (8, 16, 24))
        self.layer = nn.ModuleList(nn.Conv2d(12, 12, 3, padding=1) for _ in range(3))
        self.shared = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = [self.c2(x)]
        maps.append(self.c3(maps[-1]))
        maps.append(self.c4(maps[-1]))
        last = self.inner[-1](maps[-1])
        results = [self.layer[-1](last)]
        for i in (1, 0):
            lateral = self.inner[i](maps[i])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            results.insert(0, self.layer[i](last))
        return OrderedDict((f"p{i}", self.shared(F.relu(r))) for i, r in enumerate(results))


class Detr(nn.Module):
    """Queries that look at an image (Carion et al. 2020); dictionary out."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 20, 3, 2))
        self.conv = nn.Conv2d(20, width, 1)
        self.transformer = nn.Transformer(width, 2, 1, 1, 24, dropout=0.0)
        self.query_pos = nn.Parameter(torch.rand(6, width))
        self.row_embed = nn.Parameter(torch.rand(10, width // 2))
        self.col_embed = nn.Parameter(torch.rand(10, width // 2))
        self.linear_class = nn.Linear(width, 4)
        self.linear_bbox = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.conv(self.backbone(x))
        rows, columns = h.shape[-2:]
        pos = (
            torch.cat(
                [
                    self.col_embed[:columns].unsqueeze(0).repeat(rows, 1, 1),
                    self.row_embed[:rows].unsqueeze(1).repeat(1, columns, 1),
                ],
                dim=-1,
            )
            .flatten(0, 1)
            .unsqueeze(1)
        )
        h = self.transformer(
            pos + 0.1 * h.flatten(2).permute(2, 0, 1),
            self.query_pos.unsqueeze(1).repeat(1, x.shape[0], 1),
        ).transpose(0, 1)
        return {"logits": self.linear_class(h), "boxes": self.linear_bbox(h).sigmoid()}


# --- classifiers ---------------------------------------------------------------------------------


class DenseCheckpointed(nn.Module):
    """Dense layers behind `torch.utils.checkpoint`, features kept in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 6 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 6 * i, 6, 3, padding=1) for i in range(3))
        self.squeeze = nn.Conv2d(26, 13, 1)
        self.head = nn.Linear(13, 5)

    def _dense(self, i: int, *features: Tensor) -> Tensor:
        return self.convs[i](F.relu(self.norms[i](torch.cat(features, 1))))

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for i in range(3):
            made = checkpoint(self._dense, i, *features, use_reentrant=False)
            assert isinstance(made, Tensor)
            features.append(made)
        x = F.avg_pool2d(self.squeeze(torch.cat(features, 1)), 2)
        return self.head(F.adaptive_avg_pool2d(x, (1, 1)).view(x.shape[0], -1))


class CBAM(nn.Module):
    """Channel attention from two poolings, spatial attention from channel statistics (2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.last = nn.Conv2d(16, 12, 3)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        total = 0
        for pool in (F.avg_pool2d, F.max_pool2d):
            total = total + self.mlp(pool(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))))
        x = x * torch.sigmoid(total).unsqueeze(2).unsqueeze(3).expand_as(x)
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        x = x * torch.sigmoid(self.spatial(pooled))
        return self.head(self.last(x).mean(dim=[-2, -1]))


class AlexNet(nn.Module):
    """Two towers in groups, local response norm, a view with a number written in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, 2, 2)
        self.lrn = nn.LocalResponseNorm(5)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1, groups=2)
        self.conv3 = nn.Conv2d(24, 20, 3, padding=1)
        self.fc6 = nn.Linear(20 * 4 * 4, 32)
        self.fc7 = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lrn(F.relu(self.conv1(x)))
        x = F.relu(self.conv3(F.relu(self.conv2(x))))
        x = F.max_pool2d(x, 2).view(-1, 20 * 4 * 4)
        return self.fc7(F.dropout(F.relu(self.fc6(x)), training=self.training))


class SpatialTransformer(nn.Module):
    """The input is warped by what a small network says (Jaderberg et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.MaxPool2d(2, stride=2), nn.ReLU(True), nn.Conv2d(8, 10, 3)
        )
        self.fc_loc = nn.Sequential(nn.Linear(10 * 4 * 4, 16), nn.ReLU(True), nn.Linear(16, 3 * 2))
        self.conv = nn.Conv2d(1, 10, kernel_size=3)
        self.drop = nn.Dropout2d()
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        xs = self.localization(x)
        theta = self.fc_loc(xs.view(-1, 10 * 4 * 4)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False)
        x = F.relu(self.drop(self.conv(x)))
        return F.log_softmax(self.fc(x.mean((2, 3))), dim=1)


class Warped(nn.Module):
    """Feature maps are warped by a flow that another branch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 16, 3, padding=1)
        self.flow = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 2, 1))
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        flow = self.flow(torch.cat([a, b], 1)).permute(0, 2, 3, 1).tanh()
        moved = F.grid_sample(self.features(b), flow, align_corners=False)
        return self.out(torch.cat([self.features(a), moved], 1))


class Siamese(nn.Module):
    """Two inputs through one tower; a distance comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU()
        )
        self.embed = nn.Linear(16, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (self.embed(torch.amax(self.tower(t), dim=(2, 3))) for t in (left, right))
        return torch.sigmoid(self.head(torch.abs(a - b))), F.cosine_similarity(a, b)


# --- generators ----------------------------------------------------------------------------------


class SuperResolution(nn.Module):
    """Residual blocks without norms, then pixel shuffles (Lim et al. 2017; Shi et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PReLU(), nn.Conv2d(16, 16, 3, 1, 1))
            for _ in range(2)
        )
        self.up = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(16))
        self.tail = nn.Sequential(nn.Conv2d(16, 3 * 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        base = F.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)
        x = head = self.head(x)
        for block in self.body:
            x = block(x).mul(0.1) + x
        return (self.tail(self.up(x + head)) + base).clamp(0, 1)


class Generator(nn.Module):
    """Noise to image (Radford et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(10, 32, 4, 1, 0, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(True),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z.view(-1, 10, 1, 1))


class ConditionalGenerator(nn.Module):
    """A label is embedded beside the noise; a linear layer makes the first map."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(7, 6)
        self.first = nn.Linear(16, 24 * 4 * 4)
        self.blocks = nn.Sequential(
            nn.BatchNorm2d(24),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(24, 16, 3, padding=1),
            nn.BatchNorm2d(16, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        x = self.first(torch.cat((self.label(labels), noise), -1))
        return torch.tanh(self.blocks(x.view(x.shape[0], 24, 4, 4)))


class StyleTransfer(nn.Module):
    """Reflection padding, instance norms, residual blocks (Johnson et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.InstanceNorm2d(8), nn.ReLU(True),
            nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.ReLU(True),
        )  # fmt: skip
        self.block = nn.Sequential(
            nn.ReplicationPad2d(1), nn.Conv2d(16, 16, 3), nn.InstanceNorm2d(16), nn.ReLU(True),
            nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3), nn.InstanceNorm2d(16),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.last = nn.Conv2d(8, 3, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        x = x + self.block(x)
        return torch.tanh(self.last(F.relu(self.up(x))))


class Modulated(nn.Module):
    """A style scales the inputs of a convolution; weights are normalised (Karras et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 12))
        self.const = nn.Parameter(torch.randn(1, 16, 4, 4))
        self.affine = nn.Linear(12, 16)
        self.weight = nn.Parameter(torch.randn(20, 16, 3, 3))
        self.bias = nn.Parameter(torch.randn(20))
        self.rgb = nn.Conv2d(20, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        style = self.affine(self.mapping(z))
        x = self.const.expand(z.shape[0], -1, -1, -1) * style[:, :, None, None]
        w = self.weight * (self.weight.square().sum([1, 2, 3], keepdim=True) + 1e-8).rsqrt()
        x = F.conv2d(x, w, padding=1) + self.bias.view(1, -1, 1, 1)
        return self.rgb(F.leaky_relu(x, 0.2))


class VariationalAutoencoder(nn.Module):
    """Means and variances from one layer, noise given from outside, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.Flatten()
        )
        self.stats = nn.Linear(16 * 4 * 4, 2 * 6)
        self.first = nn.Linear(6, 16 * 4 * 4)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (16, 4, 4)), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.stats(self.encoder(x)).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * noise
        return self.decoder(self.first(z)), mean, logvar


class Denoiser(nn.Module):
    """A diffusion network: sinusoidal time, scale and shift, attention over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1)
        self.film = nn.Linear(32, 32)
        self.norm2 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.qkv = nn.Conv1d(16, 48, 1)
        self.proj = nn.Conv1d(16, 16, 1)
        self.out = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rates = torch.exp(-torch.arange(8) / 8 * 9.2)
        angles = t[:, None].float() * rates[None]
        emb = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1).to(x.dtype))
        x = self.stem(x)
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(F.silu(emb))[..., None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        x = x + self.conv2(F.silu(h))
        b, c, *spatial = x.shape
        flat = x.reshape(b, c, -1)
        q, k, v = self.qkv(flat).reshape(b * 2, c // 2 * 3, -1).split(c // 2, dim=1)
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q, k) * (c // 2) ** -0.5, dim=-1)
        a = torch.einsum("bts,bcs->bct", weight, v).reshape(b, -1, flat.shape[-1])
        return self.out((flat + self.proj(a)).reshape(b, c, *spatial))
