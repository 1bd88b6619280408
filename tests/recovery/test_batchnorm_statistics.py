from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgeprune import capture
from edgeprune.data import Data
from edgeprune.recovery.statistics import recompute_statistics


def images(samples: int, batch: int) -> tuple[Tensor, Data]:
    x = torch.randn(samples, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 + 1
    loader = DataLoader(TensorDataset(x, torch.zeros(samples).long()), batch_size=batch)
    return x, Data("noise", loader, loader, loader, None, None, (3, 6, 6))


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(16, 2),
        ).eval()  # fmt: skip


def test_they_are_those_of_the_samples() -> None:
    model = net()
    x, data = images(96, 96)
    graph = capture(model, (torch.zeros(1, 3, 6, 6),))
    before = {k: v.clone() for k, v in graph.program.state_dict().items()}
    found = recompute_statistics(graph, data)
    with torch.no_grad():
        first = model[0](x)
        hidden = nn.functional.batch_norm(
            first, None, None, model[1].weight, model[1].bias, training=True
        )
        second = model[4](hidden.relu())
    state = found.program.state_dict()
    for name, made in (("1", first), ("5", second)):
        mean, var = made.mean((0, 2, 3)), made.transpose(0, 1).flatten(1).var(1)
        torch.testing.assert_close(state[f"{name}.running_mean"], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state[f"{name}.running_var"], var, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in graph.program.state_dict().items())
    assert all(torch.equal(state[k], before[k]) for k in state if "running" not in k)


@pytest.mark.parametrize(("samples", "batch"), [(100, 33), (97, 96)])
def test_the_variance_between_batches_counts(samples: int, batch: int) -> None:
    x, data = images(samples, batch)
    x += torch.arange(samples).view(-1, 1, 1, 1) / 10  # batches differ in their means
    model = nn.Sequential(nn.BatchNorm2d(3))
    found = recompute_statistics(capture(model.eval(), (torch.zeros(1, 3, 6, 6),)), data)
    seen = x[: samples - 1]  # a sample by itself has no batch statistics
    torch.testing.assert_close(
        found.program.state_dict()["0.running_var"], seen.transpose(0, 1).flatten(1).var(1)
    )


def test_only_so_many_samples_are_looked_at() -> None:
    x, data = images(80, 10)
    model = nn.Sequential(nn.BatchNorm2d(3))
    graph = capture(model.eval(), (torch.zeros(1, 3, 6, 6),))
    found = recompute_statistics(graph, data, samples=25)
    torch.testing.assert_close(found.program.state_dict()["0.running_mean"], x[:25].mean((0, 2, 3)))


def test_a_network_without_batch_norms_is_copied() -> None:
    _, data = images(8, 8)
    graph = capture(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), (torch.zeros(1, 3, 6, 6),))
    found = recompute_statistics(graph, data)
    assert found.program is not graph.program
    assert torch.equal(
        found.program.state_dict()["0.weight"], graph.program.state_dict()["0.weight"]
    )
