from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from edgeprune.data import Data
from edgeprune.records import Recipe
from edgeprune.recovery.objective import Objective, optimiser, rate

X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
TEACHER = nn.Linear(4, 3)


def toy(**changes: object) -> Data:
    loader = DataLoader(TensorDataset(X, Y), batch_size=6)
    options = {"classes": 3, "loss": F.cross_entropy, **changes}
    return Data("toy", loader, loader, loader, None, sample_shape=(4,), **options)  # type: ignore[arg-type]


def test_without_a_teacher_it_is_the_datas_loss() -> None:
    output = torch.randn(6, 3)
    got = Objective(toy(), Recipe(label_smoothing=0.1))(X, output, Y)
    assert got == F.cross_entropy(output, Y, label_smoothing=0.1)


def test_the_teachers_share_is_the_softened_divergence() -> None:
    output, recipe = torch.randn(6, 3), Recipe(distill=0.3, temperature=2.0)
    got = Objective(toy(), recipe, TEACHER)(X, output, Y)
    p, q = F.softmax(TEACHER(X) / 2, 1), F.softmax(output / 2, 1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    expected = 0.7 * F.cross_entropy(output, Y) + 0.3 * 4 * divergence
    assert float(got.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert not got.requires_grad, "nothing flows into the teacher"


def test_like_its_teacher_a_student_has_no_soft_loss() -> None:
    got = Objective(toy(), Recipe(distill=1.0), TEACHER)(X, TEACHER(X).detach(), Y)
    assert float(got) == pytest.approx(0, abs=1e-6)


def test_elsewhere_the_teachers_share_is_the_squared_difference() -> None:
    data = toy(loss=lambda output, target: output.sum() * 0, classes=None)
    output = TEACHER(X).detach() + 2
    got = Objective(data, Recipe(distill=0.5), TEACHER)(X, output, Y)
    assert float(got) == pytest.approx(0.5 * 4, rel=1e-5)


def test_norms_and_biases_are_not_decayed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decay = {
        id(p): group["weight_decay"]
        for group in optimiser(net, Recipe(lr=0.01, weight_decay=0.1)).param_groups
        for p in group["params"]
    }
    assert {name: decay[id(p)] for name, p in net.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


@given(st.integers(1, 300), st.floats(0, 0.9))
def test_the_rate_rises_then_falls_and_never_exceeds_its_peak(steps: int, warmup: float) -> None:
    recipe = Recipe(lr=0.4, warmup=warmup)
    rates = [rate(step, steps, recipe) for step in range(steps)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) > 0
    assert max(rates) <= 0.4
    if round(warmup * steps) < steps:
        assert max(rates) == pytest.approx(0.4)
