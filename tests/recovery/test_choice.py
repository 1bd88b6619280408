from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from edgeprune.data import Data, evaluate
from edgeprune.data.evaluate import estimate
from edgeprune.recovery.choice import better_trained

SAMPLES = 400
"""In training, and as many in validation."""


def loader(first: int) -> DataLoader[object]:
    """Samples that are known by their number, all of class 1."""
    numbers = torch.arange(first, first + SAMPLES)
    return DataLoader(TensorDataset(numbers, torch.ones(SAMPLES, dtype=torch.int64)), 40)


def data() -> Data:
    return Data("known", loader(0), loader(0), loader(SAMPLES), None, 2, (1,))


def right_on(training: float, validation: float) -> nn.Module:
    """A network that is right on these percentages of the samples, in every batch alike."""
    share = torch.arange(SAMPLES) % 40 / 40 * 100
    right = torch.cat([share < training, share < validation]).float()
    module = nn.Embedding(2 * SAMPLES, 2)
    module.load_state_dict({"weight": torch.stack([0.5 - right, right - 0.5], 1)})
    return module


def outcome(start: tuple[float, float], trained: tuple[float, float], of: Data) -> tuple[bool, str]:
    modules = right_on(*start), right_on(*trained)
    before, after = (evaluate(module, of.validation, of) for module in modules)
    return better_trained(*modules, of, (before, after))


@pytest.mark.parametrize(
    ("start", "trained", "better", "told"),
    [
        ((90, 80), (90, 85), True, ""),
        ((90, 80), (90, 80), True, ""),
        ((90, 90), (95, 85), True, "by heart"),
        ((90, 90), (85, 85), False, "those of the start"),
        ((95, 85), (100, 80), False, "those of the start"),
    ],
    ids=["better", "equal", "known by heart", "worse on both", "overfitted"],
)
def test_samples_that_the_start_has_seen_do_not_decide(
    start: tuple[float, float], trained: tuple[float, float], better: bool, told: str
) -> None:
    found, note = outcome(start, trained, data())
    assert found == better
    assert told in note
    assert bool(note) == bool(told)


def test_augmented_training_samples_are_no_comparison() -> None:
    plain = data()
    augmented = replace(plain, train_plain=plain.train)
    found, note = outcome((90, 90), (95, 85), augmented)
    assert not found
    assert "those of the start" in note


def test_the_standard_error_is_that_of_the_mean_of_batches() -> None:
    torch.manual_seed(0)
    values = torch.rand(SAMPLES)
    mean = replace(data(), metric=lambda output, target: output.mean())
    module = nn.Embedding.from_pretrained(values[:, None])
    found = estimate(module, mean.train_plain, mean)
    batches = values.double().view(-1, 40).mean(1)
    assert found.samples == SAMPLES
    assert found.metric.value == pytest.approx(float(batches.mean()))
    assert found.error == pytest.approx(float(batches.std()) / math.sqrt(len(batches)), rel=1e-4)
    assert math.isnan(estimate(module, mean.train_plain, mean, most=40).error)
