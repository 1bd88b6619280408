"""Ethos-U: Vela's reports read, kept beside the program, and marked as the estimates they are.

What needs Vela itself runs where it is installed (`pip install -e '.[dev,ethos-u]'`, in an
environment of its own); the rest runs everywhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune import capture, lower, measure
from edgeprune.cli.profile_vela import vela_profile
from edgeprune.errors import LoweringError, MeasureError, TargetError
from edgeprune.lowering import on_noise
from edgeprune.measuring import compare, speedup
from edgeprune.records import Graph, Target
from edgeprune.targets import load_target
from edgeprune.vela_reports import SUFFIX, VelaEstimate, VelaLayer, read_reports

U55 = load_target("ethos-u55-128")
HAS_VELA = find_spec("ethosu") is not None
needs_vela = pytest.mark.skipif(
    not HAS_VELA, reason="Vela is not installed here: pip install 'edgeprune[ethos-u]'"
)

PER_LAYER = """\
Original Operator,NNG Operator,Target,Op Cycles,NPU,MAC Count,Util% (MAC),Name
Conv2D,Conv2D,NPU,18560,18560,442368,18.62,first
AvgPool,AvgPool,NPU,5516.0,5516,8192,1.16,pool
"""
SUMMARY = """\
accelerator_configuration,system_config,memory_mode,core_clock,sram_memory_used,cycles_total
Ethos_U55_128,Ethos_U55_High_End_Embedded,Shared_Sram,500000000.0,29.5,24100
"""
ESTIMATE = VelaEstimate(
    accelerator="Ethos_U55_128",
    system_config="Ethos_U55_High_End_Embedded",
    memory_mode="Shared_Sram",
    clock_hz=5e8,
    cycles=24100,
    sram_bytes=30208,
    layers=(
        VelaLayer("first", "Conv2D", 18560, 18560, 442368, pytest.approx(0.1862)),  # type: ignore[arg-type]
        VelaLayer("pool", "AvgPool", 5516, 5516, 8192, pytest.approx(0.0116)),  # type: ignore[arg-type]
    ),
)


def reports(folder: Path, parts: int = 1) -> Path:
    output = folder / "output"
    output.mkdir(parents=True)
    (output / "out_per-layer.csv").write_text(PER_LAYER)
    (output / "out_summary_Ethos_U55_High_End_Embedded.csv").write_text(SUMMARY)
    for part in range(parts):
        (folder / f"output_tag{part}_TOSA-1.0.tosa").touch()
    return folder


def program(folder: Path, estimate: VelaEstimate, name: str = "net.pte") -> Path:
    """A file that passes for a program, with an estimate beside it."""
    path = folder / name
    path.write_bytes(b"\0\0\0\0ET12" + name.encode())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / (name + SUFFIX)).write_text(json.dumps({"sha256": digest, **asdict(estimate)}))
    return path


def an_estimate(cycles: int) -> VelaEstimate:
    layer = VelaLayer("conv", "Conv2D", cycles, cycles, 1000, 0.5)
    return VelaEstimate("Ethos_U55_128", "system", "memory", 5e8, cycles, 1024, (layer,))


def test_reports_are_read(tmp_path: Path) -> None:
    estimate = read_reports(reports(tmp_path / "dump"))
    assert estimate == ESTIMATE
    assert estimate.ms == pytest.approx(0.0482)  # 24100 cycles at 500 MHz
    assert estimate.layer_cycles == 18560 + 5516


def test_reports_that_do_not_tell_the_whole(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="given no part"):
        read_reports(tmp_path)
    with pytest.raises(LoweringError, match="falls into 2 parts"):
        read_reports(reports(tmp_path / "two", parts=2))


def test_an_estimate_is_a_measurement_that_says_so(tmp_path: Path) -> None:
    slow = program(tmp_path, an_estimate(50_000), "slow.pte")
    fast = program(tmp_path, an_estimate(10_000), "fast.pte")
    before, after = compare([slow, fast], U55)
    assert before.median_ms == pytest.approx(0.1)
    assert before.estimated
    assert after.estimated
    assert before.peak_rss_bytes == 1024
    assert speedup(before, after) == (pytest.approx(5.0), (pytest.approx(5.0), pytest.approx(5.0)))
    assert any("estimated, not measured" in warning for warning in before.warnings)


def test_programs_without_an_estimate_of_their_own(tmp_path: Path) -> None:
    path = program(tmp_path, an_estimate(1000))
    path.write_bytes(path.read_bytes() + b" changed")
    with pytest.raises(MeasureError, match="of another program"):
        measure(path, U55)
    path.with_name(path.name + SUFFIX).unlink()
    with pytest.raises(MeasureError, match=r"net\.pte\.vela\.json is not beside"):
        measure(path, U55)


def test_programs_for_another_accelerator(tmp_path: Path) -> None:
    path = program(tmp_path, an_estimate(1000))
    with pytest.raises(MeasureError, match=r"lowered for Ethos_U55_128.*ethos-u85-256"):
        measure(path, load_target("ethos-u85-256"))


@pytest.mark.skipif(HAS_VELA, reason="Vela is installed")
def test_without_vela_the_error_says_how_to_get_it(small: Graph) -> None:
    with pytest.raises(LoweringError, match=r"pip install 'edgeprune\[ethos-u\]'"):
        lower(small, U55)


@needs_vela
def test_without_an_accelerator(small: Graph) -> None:
    target = Target("odd", "", "ethos-u", "vela", "int8", 1, "estimated")
    with pytest.raises((TargetError, LoweringError), match=r"vela\.accelerator"):
        on_noise(small, target)


@needs_vela
def test_a_graph_that_was_not_quantised_is_refused(small: Graph) -> None:
    with pytest.raises(LoweringError, match="quantise the graph on samples"):
        lower(small, U55)


@pytest.fixture(scope="module")
def small() -> Graph:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )
    return capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 32, 32),))


@needs_vela
@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
def test_layers_add_up_to_velas_own_summary(small: Graph, name: str) -> None:
    estimate = vela_profile(small, load_target(name))
    assert estimate.layer_cycles == pytest.approx(estimate.cycles, rel=0.05)
    macs = 32 * 32 * 16 * 27 + 16 * 16 * 32 * 144 + 320
    assert sum(x.macs for x in estimate.layers) == pytest.approx(macs, rel=0.01)


@needs_vela
def test_lowered_programs_carry_their_estimate(small: Graph, tmp_path: Path) -> None:
    artifact = lower(on_noise(small, U55), U55, tmp_path / "net.pte")
    measured = measure(artifact, U55)
    assert measured.estimated
    assert measured.median_ms > 0
    again = lower(on_noise(small, U55), U55, tmp_path / "again.pte")
    assert measure(again, U55).median_ms == measured.median_ms
