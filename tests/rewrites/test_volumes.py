"""Clips as images: the same values as the three-dimensional operators, and programs that run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from calls import HERE, Body, Calls
from torch import Tensor, nn

from edgeprune.channels import channel_groups
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.measuring.execute import execute
from edgeprune.rewrites import rewritten
from edgeprune.rewrites.following import as_run

CLIP = (2, 4, 5, 9, 8)


def filters(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


BODIES: dict[str, tuple[Body, str]] = {
    "plain": (lambda x: F.conv3d(x, filters(6, 4, 3, 3, 3), filters(6)), "convolution of clips"),
    "padded, strided": (
        lambda x: F.conv3d(x, filters(6, 4, 3, 3, 2), None, (2, 1, 2), (1, 2, 1)),
        "convolution of clips",
    ),
    "dilated": (
        lambda x: F.conv3d(x, filters(6, 4, 2, 2, 3), filters(6), 1, (2, 0, 1), (3, 2, 1)),
        "convolution of clips",
    ),
    "depthwise": (
        lambda x: F.conv3d(x, filters(4, 1, 3, 3, 3), filters(4), (1, 2, 2), 1, 1, 4),
        "convolution of clips",
    ),
    "grouped": (
        lambda x: F.conv3d(x, filters(6, 2, 1, 3, 3), None, 1, (0, 1, 1), 1, 2),
        "convolution of clips",
    ),
    "along time": (
        lambda x: F.conv3d(x, filters(6, 4, 3, 1, 1), filters(6), (2, 1, 1), (1, 0, 0)),
        "convolution of clips",
    ),
    "points, strided": (
        lambda x: F.conv3d(x, filters(6, 4, 1, 1, 1), None, 2),
        "convolution of clips",
    ),
    "largest": (lambda x: F.max_pool3d(x, 3, 2, 1), "max pooling of clips"),
    "largest, rounded up": (
        lambda x: F.max_pool3d(x, (2, 3, 2), (2, 2, 3), (1, 1, 0), 1, True),
        "max pooling of clips",
    ),
    "average": (lambda x: F.avg_pool3d(x, (2, 3, 2)), "average pooling of clips"),
    "average, padded": (lambda x: F.avg_pool3d(x, 3, 2, 1), "average pooling of clips"),
    "average, rounded up, padding not counted": (
        lambda x: F.avg_pool3d(x, (2, 3, 3), 2, 1, True, False),
        "average pooling of clips",
    ),
    "mean": (lambda x: F.adaptive_avg_pool3d(x, 1), "adaptive average pooling of clips"),
    "uneven": (lambda x: F.adaptive_avg_pool3d(x, (2, 4, 8)), "adaptive average pooling of clips"),
    "batch norm": (
        lambda x: F.max_pool3d(
            F.batch_norm(x, filters(4), filters(4).exp(), filters(4), filters(4)), 2
        ),
        "batch norm of clips",
    ),
    "batch norm, plain": (
        lambda x: F.max_pool3d(F.batch_norm(x, filters(4), filters(4).exp()), 2),
        "batch norm of clips",
    ),
}


class Clips(nn.Module):
    """A small network for clips: convolutions over both, over frames and over time, poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (3, 5, 5), (1, 2, 2), (1, 2, 2))
        self.norm = nn.BatchNorm3d(8)
        self.frames = nn.Conv3d(8, 12, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(12, 8, (3, 1, 1), padding=(1, 0, 0))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = x + self.time(torch.relu(self.frames(x)))
        return self.head(F.adaptive_avg_pool3d(x, 1).flatten(1))


@pytest.mark.parametrize("case", BODIES)
def test_the_same_values(case: str) -> None:
    body, name = BODIES[case]
    x = torch.randn(CLIP)
    program, applied = rewritten(torch.export.export(Calls(body).eval(), (x,)))
    assert applied.get(name, 0) >= 1
    assert not [n for n in program.graph.nodes if "3d" in str(n.target)]
    torch.testing.assert_close(program.module()(x), body(x), rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("order", [(0, 1, 3, 5, 2, 4, 6, 7), (7, 6, 5, 4, 3, 2, 1, 0)])
def test_windows_of_clips(order: tuple[int, ...], tmp_path: Path) -> None:
    def body(x: Tensor) -> Tensor:
        windows = x.view(2, 2, 2, 3, 3, 2, 2, 4).permute(order)
        return windows.reshape(-1, 8).softmax(-1)

    x = torch.randn(2, 4, 9, 4, 4)
    graph = capture(Calls(body).eval(), (x,))
    made = lower(graph, HERE, tmp_path / "windows.pte")
    assert not made.other_ops
    (y,) = execute(made, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(y), body(x))


def test_sums_of_many_dimensions(tmp_path: Path) -> None:
    """Positions along each dimension of a clip, added to attention between all of them."""

    def body(x: Tensor) -> Tensor:
        scores, table = x.view(1, 2, 2, 3, 2, 2, 3, 2), x[0, 0, :9, :12].reshape(3, 3, 12)
        rows = torch.einsum("bythwc,hkc->bythwk", x.view(1, 2, 2, 3, 2, 12), table)
        rows = rows[:, :, :, :, :, None, :, None]
        offsets = x[:, :, :, 3:4].reshape(1, 2, 2, 3, 2, 1, 1, 1)
        return (scores + rows + offsets).view(x.shape).softmax(-1)

    x = torch.randn(1, 2, 12, 12)
    made = lower(capture(Calls(body).eval(), (x,)), HERE, tmp_path / "sums.pte")
    assert not made.other_ops
    (y,) = execute(made, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(y), body(x))


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = Clips().eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model, torch.randn(1, 3, 4, 16, 16)


def test_a_network_for_clips_runs(network: tuple[nn.Module, Tensor], tmp_path: Path) -> None:
    model, x = network
    made = lower(capture(model, (x,)), HERE, tmp_path / "clips.pte")
    assert not made.other_ops
    (y,) = execute(made, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(y), model(x), rtol=1e-4, atol=1e-5)


def test_its_kernels_shrink_with_its_groups(network: tuple[nn.Module, Tensor]) -> None:
    graph = capture(*[network[0], (network[1],)])
    run, groups = as_run(graph, channel_groups(graph), HERE)
    widths = {"stem": 2, "frames": 3}
    for node in run.program.graph.find_nodes(
        op="call_function", target=torch.ops.aten.conv2d.default
    ):
        made = groups.extents[node.name]
        full, kept = node.meta["shape"][1], made[1].at({**groups.full_widths(), **widths})
        assert {8: 2, 12: 3}[full] == kept
