"""Kernels for Ethos-U priced by Vela one by one, and a fit that plans by them.

What needs Vela runs where it is installed (`pip install -e '.[dev,ethos-u]'`, in an environment of
its own).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.channels import channel_groups
from edgeprune.cli import main
from edgeprune.cli.profile_vela import vela_profile
from edgeprune.cost.sampler import Effort
from edgeprune.cost.tosa_kernels import can_build, times
from edgeprune.errors import TargetError
from edgeprune.graph import capture
from edgeprune.measuring import kernels
from edgeprune.measuring.vela_kernels import VelaRuns
from edgeprune.records import Graph, KernelKey, silent
from edgeprune.targets import load_target

U55 = load_target("ethos-u55-128")
EFFORT = Effort(seconds=1.0, rounds=1, batch_bytes=1)
needs_vela = pytest.mark.skipif(
    find_spec("ethosu") is None, reason="not installed here: pip install 'edgeprune[ethos-u]'"
)

NET = """
from torch import nn
def make():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
"""


def conv(c_in: int, c_out: int, size: int = 16, **more: object) -> KernelKey:
    point = (1, 1)
    attrs = {"kernel": point, "stride": point, "dilation": point, "padding": (0, 0, 0, 0)}
    attrs |= {"groups": 1, "out_channels": c_out, "activation": None, **more}
    return KernelKey("conv", ((1, c_in, size, size),), tuple(sorted(attrs.items())))


def us(*keys: KernelKey) -> list[float]:
    return [samples[0] for _, samples in VelaRuns(U55).sample(keys, EFFORT, silent)]


def test_a_grouped_convolution_is_priced_group_by_group() -> None:
    assert times(conv(64, 64, groups=4)) == 4
    assert times(KernelKey("dwconv", ((1, 8, 4, 4),), (("groups", 8),))) == 1


def test_kernels_that_vela_does_not_price_are_named_before_any_is_compiled() -> None:
    unknown = KernelKey("softmax", ((1, 8),)), KernelKey("portable:aten.roll", ((1, 8),))
    assert not any(can_build(key) for key in unknown)
    with pytest.raises(TargetError, match=r"no kernel aten\.roll, softmax .*ethos-u|softmax"):
        us(conv(8, 8), *unknown)


def test_what_is_not_executed_is_free_and_needs_no_compiler() -> None:
    assert us(KernelKey("delegate_call", ((1,),)), KernelKey("conv", ())) == [0.0, 0.0]


@needs_vela
def test_every_kernel_it_names_compiles() -> None:
    image, attrs = (1, 16, 9, 9), dict(conv(16, 16).attrs)
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 0, 1), "dilation": (1, 1)}
    pool = tuple(window.items())
    found = us(
        conv(16, 24, size=9, **window),
        conv(16, 32, size=9, groups=2),
        KernelKey("dwconv", (image,), tuple({**attrs, **window, "groups": 16}.items())),
        KernelKey("linear", ((1, 64),), (("out_channels", 10), ("activation", None))),
        *(KernelKey(op, (image, image)) for op in ("add", "sub", "mul", "cat")),
        *(KernelKey(op, (image,)) for op in ("clamp", "sigmoid", "global_avg_pool")),
        *(KernelKey(op, (image,), pool) for op in ("max_pool", "avg_pool")),
        KernelKey("transpose", (image,), (("perm", (0, 2, 3, 1)),)),
    )
    assert all(value > 0 for value in found)


@needs_vela
def test_wider_kernels_cost_more_and_the_same_one_costs_the_same() -> None:
    narrow, wide, again = us(conv(64, 16), conv(64, 64), conv(64, 16))
    assert wide > 2 * narrow
    assert again == narrow


@needs_vela
def test_single_kernels_add_up_to_the_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    graph: Graph = capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 32, 32),))
    groups = channel_groups(graph)
    cost = kernels.profile(graph, U55, groups, table=tmp_path / "table.jsonl")
    whole = vela_profile(graph, U55).ms
    assert cost.latency_ms(groups.full_widths()) == pytest.approx(whole, rel=0.25)


@needs_vela
@pytest.mark.slow
def test_a_whole_fit_to_a_budget_in_estimated_milliseconds(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("net.py").write_text(NET)
    words = "fit --model net.py:make --data digits --input 1x1x32x32 --target ethos-u55-128"
    code = main([*words.split(), "--speedup", "1.5", "--epochs", "1", "-o", "run"])
    report = json.loads(Path("run/report.json").read_text())
    assert code == 0, report["reasons"]
    assert report["verdict"] == "met"
    assert report["speedup"] >= 1.5
    assert report["final"]["latency_ms"]["estimated"]
    assert report["parity"] is None
    said = json.loads(Path("run/model.pte.vela.json").read_text())
    assert report["final"]["latency_ms"]["median"] == pytest.approx(said["cycles"] / 5e5)
    assert "not run here" in Path("run/report.md").read_text()
