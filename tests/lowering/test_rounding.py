"""Training in simulated int8: what is trained, what is kept still, and what comes out."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeprune import capture, load_target, lower
from edgeprune.errors import LoweringError
from edgeprune.lowering.rounding import (
    FakeQuantised,
    check_trains_int8,
    fake_quantised,
    int8_of,
)
from edgeprune.measuring import parity
from edgeprune.records import Graph

INT8 = replace(load_target("host"), dtype="int8")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(x + self.norm2(self.conv2(x)))
        return self.linear(self.drop(x.mean((2, 3))))


@pytest.fixture(scope="module")
def samples() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 3, 8, 8, generator=generator) for _ in range(4)]


@pytest.fixture(scope="module")
def graph(samples: list[Tensor]) -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Residual()
        for batch in samples:
            net(batch)
        return capture(net.eval(), (torch.zeros(1, 3, 8, 8),))


@pytest.fixture(scope="module")
def rounded(graph: Graph, samples: list[Tensor]) -> Graph:
    return fake_quantised(graph, INT8, samples)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


def test_it_rounds_under_the_names_that_parameters_had(
    graph: Graph, rounded: Graph, samples: list[Tensor]
) -> None:
    own = dict(graph.program.named_parameters())
    found = dict(rounded.program.named_parameters())
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    with torch.no_grad():
        wanted, got = graph.program(samples[0]), rounded.program(samples[0])
    assert 0 < float((got - wanted).abs().max() / wanted.abs().max()) < 0.1


def test_only_training_moves_ranges_and_statistics(rounded: Graph, samples: list[Tensor]) -> None:
    module = copy.deepcopy(rounded.program)
    before = state(module)
    first, second = (module(3 * samples[0]) for _ in range(2))
    assert torch.equal(first, second), "nothing is dropped out"
    assert not moved(module, before)
    module.train()
    one, other = (module(3 * samples[0]) for _ in range(2))
    assert not torch.equal(one, other), "something is dropped out"
    changed = moved(module, before)
    assert {"norm1.running_mean", "norm2.running_var"} <= changed
    assert any("max_val" in name for name in changed)
    one.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    module.eval()
    before = state(module)
    module(samples[1])
    assert not moved(module, before)


def test_what_was_trained_is_what_the_program_computes(
    rounded: Graph, samples: list[Tensor], tmp_path: Path
) -> None:
    module = copy.deepcopy(rounded.program).train()
    steps = torch.optim.SGD(module.parameters(), lr=0.05)
    for batch in samples:
        steps.zero_grad()
        module(batch).square().mean().backward()
        steps.step()
    trained = replace(rounded, program=module.eval())
    small = int8_of(trained)
    with torch.no_grad():
        wanted, got = module(samples[0]), small.program(samples[0])
    step = float(wanted.max() - wanted.min()) / 255
    assert float((got - wanted).abs().max()) < 4 * step, "a rounding step or a few of int8"
    artifact = lower(small, INT8, tmp_path / "int8.pte")
    assert parity(small, artifact, [samples[1].numpy()]).max_abs < 4 * step
    assert isinstance(trained.program, FakeQuantised), "the trained one is as it was"


def test_who_cannot(graph: Graph) -> None:
    with pytest.raises(LoweringError, match="no quantizer to train with"):
        check_trains_int8(replace(INT8, backend="ethos_u"))
    with pytest.raises(LoweringError, match="got none"):
        fake_quantised(graph, INT8, [])
