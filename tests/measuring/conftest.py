"""Tiny programs through the real lowering, made once for all tests of measuring."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.lowering import lower
from edgeprune.measuring.bundle import CannotBuild, runner_bundle
from edgeprune.records import Artifact, Graph, Target

HOST = Target("host", "this machine", "xnnpack", "local", "fp32", 1, "measured")


class Net(nn.Module):
    """Convolutions of `width` channels on 16×16 images, and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(1))


@dataclass(frozen=True)
class Lowered:
    graph: Graph
    artifact: Artifact


def lowered(width: int, folder: Path, batch: int = 1) -> Lowered:
    torch.manual_seed(width)
    x = torch.randn(2, 3, 16, 16)
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(Net(width).eval(), (x,), dynamic_shapes=shapes).module()
    graph = Graph(program, (x[:batch],), f"net{width}")
    return Lowered(graph, lower(graph, HOST, folder / f"net{width}x{batch}.pte"))


@pytest.fixture(scope="session")
def target() -> Target:
    return HOST


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session")
def narrow(folder: Path) -> Lowered:
    return lowered(16, folder)


@pytest.fixture(scope="session")
def wide(folder: Path) -> Lowered:
    return lowered(96, folder)


@pytest.fixture(scope="session")
def pairs(folder: Path) -> Lowered:
    """The narrow network with a batch of two."""
    return lowered(16, folder, batch=2)


@pytest.fixture(scope="session")
def foreign(narrow: Lowered, folder: Path) -> Path:
    """A program as others make it: upstream's defaults, inputs planned."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(narrow.graph.program, narrow.graph.example_inputs)
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path = folder / "foreign.pte"
    path.write_bytes(edge.to_executorch().buffer)
    return path


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the C++ runner, built for this machine."""
    try:
        bundle = runner_bundle(platform.machine(), tmp_path_factory.mktemp("runners"))
    except CannotBuild as error:
        pytest.skip(f"the C++ runner cannot be built here: {error}")
    return bundle.files[0].parent
