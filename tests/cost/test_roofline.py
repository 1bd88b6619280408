"""Estimates from peak rates: counted by hand, equal for a graph and its program, and marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune import capture, channel_groups, lower, profile
from edgeprune.cost.roofline import Roof, Work, kernel_work
from edgeprune.errors import MeasureError, TargetError
from edgeprune.measuring import measure, measure_until_decided
from edgeprune.measuring.roofline import program_work
from edgeprune.records import KernelKey, Rates, Target
from edgeprune.targets import load_target

RATES = Rates({"fp32": 10.0}, 2.0, "a data sheet")
TARGET = Target("paper", "", "xnnpack", "roofline", "fp32", 1, "estimated", rates=RATES)


class Net(nn.Module):
    """A convolution, a depthwise one, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depth(self.conv(x).relu())
        return self.head(x.mean((2, 3), keepdim=True).flatten(1))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return capture(Net().eval(), (torch.randn(1, 3, 16, 16),))


@pytest.fixture(scope="module")
def program(graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lower(graph, load_target("host"), tmp_path_factory.mktemp("roof") / "net.pte").path


def test_the_longer_of_computing_and_moving() -> None:
    roof = Roof(macs_per_s=1e9, bytes_per_s=1e8, source="")
    assert roof.us(Work(macs=1000, bytes=10)) == pytest.approx(1.0)
    assert roof.us(Work(macs=10, bytes=1000)) == pytest.approx(10.0)


def test_work_of_a_convolution() -> None:
    attrs = {
        "kernel": (3, 3),
        "stride": (1, 1),
        "padding": (1, 1, 1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "out_channels": 8,
        "activation": None,
    }
    key = KernelKey("conv", ((1, 3, 16, 16),), tuple(sorted(attrs.items())))
    work = kernel_work(key)
    assert work.macs == 16 * 16 * 8 * 3 * 9
    assert work.bytes == 4 * (3 * 256 + 8 * 256 + 8 * 3 * 9 + 8)


def test_a_program_has_the_macs_of_its_network(program: Path) -> None:
    macs = sum(work.macs for work in program_work(program))
    assert macs == 256 * 8 * 27 + 256 * 8 * 9 + 8 * 5


def test_program_and_cost_model_agree(graph, program: Path) -> None:
    groups = channel_groups(graph)
    cost = profile(graph, TARGET, groups)
    full = groups.full_widths()
    measured = measure(program, TARGET)
    assert cost.latency_ms(full) == pytest.approx(measured.median_ms, rel=0.05)
    half = {name: width // 2 for name, width in full.items()}
    assert 0 < cost.latency_ms(half) < cost.latency_ms(full)


def test_an_estimate_is_marked(program: Path) -> None:
    measured = measure(program, TARGET)
    assert measured.estimated
    assert measured.interval_ms == (measured.median_ms, measured.median_ms)
    assert any("estimated, not measured" in w and "a data sheet" in w for w in measured.warnings)
    assert measured.conditions.cpu == "estimated from peak rates"
    _, decided = measure_until_decided(program, TARGET, measured.median_ms * 1.01)
    assert decided == "met"


def test_threads_share_the_computing(program: Path) -> None:
    many = replace(TARGET, rates=replace(RATES, memory_gb_per_s=1e6))
    one, two = measure(program, many), measure(program, replace(many, threads=2))
    assert one.median_ms == pytest.approx(2 * two.median_ms, rel=1e-3)


def test_what_cannot_be_estimated(program: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"rates\.gmacs_per_s\.int8"):
        measure(program, replace(TARGET, dtype="int8"))
    with pytest.raises(TargetError, match="memory_gb_per_s"):
        measure(program, replace(TARGET, rates=None))
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(program.read_bytes()[:600])
    with pytest.raises(MeasureError, match=r"damaged\.pte cannot be read"):
        measure(damaged, TARGET)
