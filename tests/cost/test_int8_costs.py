"""Kernels in int8: which run where, what they compute, and that they are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from priced import lowered, priced
from torch import Tensor, nn

from edgeprune.channels import channel_groups
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import kernel_bytes
from edgeprune.cost.xnnpack_program import build_program
from edgeprune.graph import capture
from edgeprune.lowering import lower, quantise
from edgeprune.lowering.in_int8 import as_run_in_int8
from edgeprune.measuring.kernels import profile
from edgeprune.planning import Known, by_hand, plan
from edgeprune.records import ChannelGroups, Graph, KernelKey, Scores, Target
from edgeprune.surgery import prune

IN_INT8 = Target("here", "", "xnnpack", "local", "int8", 1, "measured")


class Mixed(nn.Module):
    """What is in int8, and between it a hardswish and a sigmoid that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.back = nn.Conv2d(16, 16, 1)
        self.left, self.right = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 10, 3, padding=1)
        self.gate = nn.Conv2d(22, 22, 1)
        self.head = nn.Linear(22, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(x + self.back(F.hardswish(self.deep(x))))
        x = F.max_pool2d(x, 2)
        x = torch.cat([F.relu(self.left(x)), self.right(x)], 1)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def subject() -> tuple[Graph, ChannelGroups]:
    torch.manual_seed(0)
    graph = capture(Mixed().eval(), (torch.randn(1, 3, 16, 16),), name="mixed")
    return graph, channel_groups(graph)


def in_int8(graph: Graph) -> Graph:
    return quantise(graph, IN_INT8, [torch.randn(1, 3, 16, 16)])


@pytest.mark.parametrize("pruned", [False, True])
def test_a_program_in_int8_runs_the_kernels_that_are_priced(
    subject: tuple[Graph, ChannelGroups], pruned: bool, tmp_path: Path
) -> None:
    graph, groups = subject
    run, known = as_run_in_int8(graph, groups, IN_INT8)
    found = kernels(run, known.extents)
    program, widths = graph, groups.full_widths()
    if pruned:
        rng = np.random.default_rng(0)
        scores = Scores("random", {g.name: rng.uniform(size=g.size) for g in groups.groups})
        made = plan(graph, groups, scores, keep=0.6)
        program, widths = prune(graph, made), made.widths()
    asked = priced(tuple(kernel.at(widths) for kernel in found))
    assert asked == lowered(in_int8(program), IN_INT8, tmp_path / "mixed.pte")


# --- one kernel --------------------------------------------------------------------------------

SCALE = 1 / 128
# What is a small byte at the start of each number is a small bias as well.
BYTES = np.zeros((4096, 4), np.int8)
BYTES[:, 0] = np.random.default_rng(0).integers(0, 16, 4096)
FLAT = torch.from_numpy(BYTES.reshape(-1).copy()).double()


def image(channels: int, size: int) -> Tensor:
    return FLAT[: channels * size**2].reshape(1, size, size, channels).permute(0, 3, 1, 2)


def bias(channels: int) -> Tensor:
    return torch.from_numpy(BYTES[:channels, 0].astype(np.float64))


def key(op: str, *shapes: tuple[int, ...], **attrs: object) -> KernelKey:
    return KernelKey(op, shapes, tuple(sorted({**attrs, "dtype": "int8"}.items())))


def convolution(op: str, channels: int, out: int, groups: int, **more: object) -> KernelKey:
    plain = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1)}
    attrs = {**plain, "groups": groups, "out_channels": out, **more}
    return key(op, (1, channels, 6, 6), **attrs)


DENSE = FLAT[: 8 * 9 * 16].reshape(8, 3, 3, 16).permute(0, 3, 1, 2)
DEEP = FLAT[: 9 * 16].reshape(1, 3, 3, 16).permute(3, 0, 1, 2)
KERNELS: dict[str, tuple[KernelKey, Tensor]] = {
    "convolution": (
        convolution("conv", 16, 8, 1, activation="relu"),
        F.conv2d(image(16, 6), DENSE, bias(8), padding=1) * SCALE,
    ),
    "depthwise": (
        convolution("dwconv", 16, 16, 16),
        F.conv2d(image(16, 6), DEEP, bias(16), padding=1, groups=16) * SCALE,
    ),
    "linear": (
        key("linear", (1, 64), out_channels=8),
        F.linear(FLAT[:64].reshape(1, 64), FLAT[:512].reshape(8, 64), bias(8)) * SCALE,
    ),
    "sum": (key("add", (1, 16, 6, 6), (1, 16, 6, 6)), FLAT[:576] + FLAT[576:1152]),
    "product": (key("mul", (1, 16, 6, 6), (1, 16, 6, 6)), FLAT[:576] * FLAT[576:1152] * SCALE),
    "to int8": (KernelKey("convert", ((1, 64),), (("to", "int8"),)), torch.zeros(1, 64)),
    "to fp32": (KernelKey("convert", ((1, 64),), (("to", "fp32"),)), FLAT[:64] * SCALE),
    "side by side": (
        key("cat", (1, 64), (1, 64), axis=1),
        torch.cat([FLAT[:64], FLAT[64:128]]),
    ),
    "largest": (
        key(
            "max_pool",
            (1, 16, 6, 6),
            kernel=(2, 2),
            stride=(2, 2),
            padding=(0, 0, 0, 0),
            dilation=(1, 1),
        ),
        F.max_pool2d(image(16, 6), 2),
    ),
    "mean": (key("global_avg_pool", (1, 16, 6, 6)), image(16, 6).mean((2, 3), keepdim=True)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_runtime_computes_what_torch_computes(name: str) -> None:
    from executorch.extension.pybindings import _C as runtime

    runtime._unsafe_reset_threadpool(1)
    kernel, wanted = KERNELS[name]
    program = build_program([kernel], BYTES.reshape(-1).view(np.float32), outputs=True)
    made = runtime._load_for_executorch_from_buffer(program).forward([])[0].clone()
    assert made.dtype is (torch.float32 if name == "to fp32" else torch.int8)
    order = (0, 3, 1, 2) if made.dim() == 4 and wanted.dim() == 4 else range(made.dim())
    found = made.permute(*order).double().reshape(wanted.shape)
    assert float((found - wanted.clamp(-128, 127)).abs().max()) <= (
        1 if made.dtype is torch.int8 else 1e-6
    )
    assert name == "to int8" or float(wanted.abs().max()) > 1e-3


def test_a_network_is_priced_in_int8(subject: tuple[Graph, ChannelGroups], tmp_path: Path) -> None:
    graph, groups = subject
    cost = profile(graph, IN_INT8, groups, table=tmp_path / "costs.sqlite")
    full = groups.full_widths()
    slim = {**full, "left": 4}
    assert 0 < cost.latency_ms(slim) <= cost.latency_ms(full)
    assert {dict(k.attrs).get("dtype") for k in cost.kernels if k.op == "conv"} == {"int8"}
    assert "hardswish" in {k.op for k in cost.kernels if dict(k.attrs).get("dtype") is None}


def test_the_bytes_of_a_program_in_int8_are_known(
    subject: tuple[Graph, ChannelGroups], tmp_path: Path
) -> None:
    """Once those of the whole network are."""
    graph, groups = subject
    run, known = as_run_in_int8(graph, groups, IN_INT8)
    full = groups.full_widths()
    found = kernels(run, known.extents)
    sizes = {}
    for share in (1, 2):
        widths = {name: width // share for name, width in full.items()}
        scores = Scores("first", {g.name: np.arange(g.size, 0, -1.0) for g in groups.groups})
        made = by_hand(Known(graph, groups, scores), widths)
        path = tmp_path / f"{share}.pte"
        size = lower(in_int8(prune(graph, made)), IN_INT8, path).size_bytes
        sizes[share] = size - sum(kernel_bytes(kernel.at(widths)) for kernel in found)
    assert abs(sizes[2] - sizes[1]) <= 256
