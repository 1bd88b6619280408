"""A run, its kit, and the kit run by its own script."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from kits_at_work import HOST, QUICK, Ran, run_kit, unzip
from made_up_report import made_up_report
from torch import nn

from edgeprune.graph import capture
from edgeprune.kit import Wanted, make_kit
from edgeprune.lowering import lower
from edgeprune.records import Report
from edgeprune.travelling import Parcel, describe_made, noise


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two programs of a fit, with their manifests; a bundle beside the pruned one."""
    folder = tmp_path_factory.mktemp("run")
    for name, width in (("baseline", 64), ("model", 16)):
        graph = capture(network(width), (torch.zeros(1, 3, 16, 16),), name="small")
        made = Parcel(graph, lower(graph, HOST, folder / f"{name}.pte"), HOST)
        describe_made(made, None, noise(graph) if name == "model" else None)
    return folder


@pytest.fixture(scope="session")
def archive(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's kit, as a zip."""
    out = tmp_path_factory.mktemp("kits") / "board.zip"
    make_kit(Wanted((run_folder,), HOST), out)
    return out


@pytest.fixture(scope="session")
def at_work(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """The kit in a folder, after its script ran: it built the runner first."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("building the runner needs cmake and a C++ compiler")
    kit = unzip(archive, tmp_path_factory.mktemp("a board") / "a folder")
    return kit, run_kit(kit, *QUICK)


@pytest.fixture
def finished_report() -> Report:
    """The report of the run, with made-up numbers."""
    return made_up_report()
