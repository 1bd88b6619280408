from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune import capture, load_target
from edgeprune.errors import LoweringError
from edgeprune.lowering import lower, lower_for_latency, quantise
from edgeprune.measuring import parity
from edgeprune.records import Graph

INT8 = replace(load_target("host"), dtype="int8")


@pytest.fixture(scope="module")
def graph() -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 400, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(400, 5),
        )  # fmt: skip
        return capture(net.eval(), (torch.zeros(1, 3, 16, 16),))


@pytest.fixture(scope="module")
def samples() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 16, 16, generator=generator) for _ in range(4)]


def test_it_computes_nearly_the_same_and_the_program_exactly_that(
    graph: Graph, samples: list[torch.Tensor], tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in graph.program.state_dict().items()}
    small = quantise(graph, INT8, samples)
    with torch.no_grad():
        wanted, got = graph.program(samples[0]), small.program(samples[0])
    error = float((wanted - got).abs().max() / wanted.abs().max())
    assert 0 < error < 0.1
    assert all(torch.equal(v, before[k]) for k, v in graph.program.state_dict().items())
    full = lower(graph, load_target("host"), tmp_path / "fp32.pte")
    artifact = lower(small, INT8, tmp_path / "int8.pte")
    assert artifact.size_bytes < 0.8 * full.size_bytes
    assert not artifact.other_ops
    found = parity(small, artifact, [samples[1].numpy()])
    step = float((got.max() - got.min()) / 255)
    assert found.max_abs < 3 * step, "a rounding step or two of int8"
    assert found.top1_agreement is not None
    assert found.top1_agreement > 0.8


def test_graph_and_target_must_agree(
    graph: Graph, samples: list[torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(LoweringError, match="not quantised"):
        lower(graph, INT8, tmp_path / "a.pte")
    with pytest.raises(LoweringError, match="is int8"):
        lower(quantise(graph, INT8, samples[:1]), load_target("host"), tmp_path / "a.pte")
    with pytest.raises(LoweringError, match="no quantizer for dtype 'fp32'"):
        quantise(graph, load_target("host"), samples)
    with pytest.raises(LoweringError, match="got none"):
        quantise(graph, INT8, [])
    assert not list(tmp_path.iterdir())


def test_programs_to_be_timed_need_no_samples(graph: Graph, tmp_path: Path) -> None:
    artifact = lower_for_latency(graph, INT8, tmp_path / "a.pte")
    assert artifact.path.exists()
    assert not artifact.other_ops
