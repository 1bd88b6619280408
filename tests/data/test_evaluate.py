from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from edgeprune.data import Data, check_fit, evaluate
from edgeprune.errors import DataError, ModelError


def toy(n: int = 10) -> Data:
    x = torch.eye(3).repeat(4, 1)[:n]
    loader = DataLoader(TensorDataset(x, x.argmax(1)), batch_size=4)
    return Data("toy", loader, loader, loader, None, 3, (3,))


class Always(nn.Module):
    def __init__(self, answer: int, classes: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.answer, self.classes = answer, classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return nn.functional.one_hot(torch.full((len(x),), self.answer), self.classes) * self.scale


def test_batches_of_different_size_are_weighted() -> None:
    module = Always(0).train()
    metric = evaluate(module, toy().validation, toy())
    # four of the ten are class 0; the plain mean of the batches' means would be 41.67
    assert metric.value == pytest.approx(40)
    assert (metric.name, metric.higher_is_better) == ("top1", True)
    assert module.training


def test_a_loader_that_yields_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="yielded nothing"):
        evaluate(Always(0), DataLoader(TensorDataset(torch.zeros(0, 3))), toy())


def test_model_and_data_must_fit() -> None:
    check_fit(Always(0), toy())
    with pytest.raises(ModelError, match=r"7 outputs, but toy has 3 classes"):
        check_fit(Always(0, 7), toy())
    with pytest.raises(ModelError, match=r"outputs \(N, 3\)"):
        check_fit(nn.Unflatten(1, (3, 1)), toy())
    with pytest.raises(ModelError, match=r"does not run on a batch of toy \(2x3\)"):
        check_fit(nn.Linear(4, 3), toy())
    check_fit(Always(0, 7), replace(toy(), loss=lambda output, target: output.sum()))
