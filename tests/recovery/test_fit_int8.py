"""fit --quantize int8 from end to end, and the accuracy of a program as its runtime computes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from edgeprune import capture, fit, load_target, lower
from edgeprune.data import Data, DataRequest, evaluate, load_data
from edgeprune.errors import EdgepruneError
from edgeprune.int8 import evaluate_program
from edgeprune.models import LoadedModel
from edgeprune.records import Budget, FitOptions, Recipe


def model() -> LoadedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 48, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
        )  # fmt: skip
    return LoadedModel(net, (1, 1, 8, 8), "small", has_weights=False)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DataRequest("digits", (1, 8, 8)))


def test_a_program_has_the_metric_of_its_graph(data: Data, tmp_path: Path) -> None:
    graph = capture(model().module.eval(), (torch.zeros(1, 1, 8, 8),))
    artifact = lower(graph, load_target("host"), tmp_path / "model.pte")
    found = evaluate_program(artifact, data.validation, data)
    assert found == evaluate(graph.program, data.validation, data)


def test_int8_needs_data(tmp_path: Path) -> None:
    options = FitOptions(
        load_target("host"), Budget(speedup=2), tmp_path / "run", Recipe(epochs=0), quantize="int8"
    )
    with pytest.raises(EdgepruneError, match="needs data"):
        fit(model(), None, options)


def test_training_in_int8_needs_epochs(data: Data, tmp_path: Path) -> None:
    options = FitOptions(
        load_target("host"), Budget(speedup=2), tmp_path / "run", Recipe(epochs=0), quantize="qat"
    )
    with pytest.raises(EdgepruneError, match="--epochs 1 or more"):
        fit(model(), data, options)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["int8", "qat"])
def test_fit_ends_with_an_int8_program_whose_accuracy_is_its_own(
    how: Literal["int8", "qat"], data: Data, tmp_path: Path
) -> None:
    options = FitOptions(
        load_target("host"), Budget(size_bytes=9_000), tmp_path / "run", Recipe(epochs=4),
        baseline_epochs=8, quantize=how,
    )  # fmt: skip
    report = fit(model(), data, options)
    told = {stage.name: stage for stage in report.stages}
    assert ("train int8" in told) == (how == "qat")
    assert report.target.dtype == "int8"
    assert report.final.size_bytes <= 9_000
    assert report.parity.top1_agreement is not None
    assert report.parity.top1_agreement > 0.9
    assert report.final.metric == told["test int8"].metric
    pruned, simulated = told["test"].metric, told["quantise"].metric
    assert pruned is not None
    assert simulated is not None
    assert report.final.metric is not None
    assert report.final.metric.value > pruned.value - 3
    assert not any("costs of fp32 kernels" in note for note in report.notes)
