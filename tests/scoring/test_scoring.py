"""Criteria against references written for the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from networks import TextbookNet
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgeprune import capture, channel_groups, score
from edgeprune.errors import PlanError


@dataclass
class Batches:
    train_plain: list[tuple[Tensor, Tensor]]

    @staticmethod
    def loss(output: Any, target: Tensor) -> Tensor:
        return cross_entropy(output, target)


def test_l1_sums_every_slice_a_channel_owns() -> None:
    model = TextbookNet()
    graph = capture(model, (torch.randn(1, 1, 28, 28),))
    got = score(graph, channel_groups(graph), "l1").values["conv2"]
    maker = model.conv2.weight.abs().sum((1, 2, 3))
    reader = model.fc1.weight.abs().reshape(64, 8, 49).sum((0, 2))
    total = (maker + reader).detach().numpy()
    np.testing.assert_allclose(got, total / total.mean(), rtol=1e-5)


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    torch.manual_seed(0)
    model = TextbookNet()
    graph = capture(model, (torch.randn(1, 1, 28, 28),))
    inputs, targets = torch.randn(16, 1, 28, 28), torch.randint(0, 10, (16,))
    got = score(graph, channel_groups(graph), "taylor", Batches([(inputs, targets)]))
    # the derivative of the loss by a gate on each channel, where conv2's output is read
    gate = torch.ones(8, requires_grad=True)
    x = torch.max_pool2d(torch.relu(model.conv1(inputs)), 2)
    x = torch.max_pool2d(torch.relu(model.conv2(x)), 2) * gate.view(1, 8, 1, 1)
    loss = cross_entropy(model.fc2(torch.relu(model.fc1(x.flatten(1)))), targets)
    (slope,) = torch.autograd.grad(loss, gate)
    np.testing.assert_allclose(got.values["conv2"], slope.abs().numpy(), rtol=1e-4)


def test_taylor_leaves_the_module_as_it_was() -> None:
    model = TextbookNet()
    graph = capture(model, (torch.randn(1, 1, 28, 28),))
    graph.module().train()
    for parameter in graph.module().parameters():
        parameter.requires_grad_(False)  # frozen models are scored too
    data = Batches([(torch.randn(4, 1, 28, 28), torch.randint(0, 10, (4,)))])
    values = score(graph, channel_groups(graph), "taylor", data).values
    assert all((v > 0).any() for v in values.values())
    assert graph.module().training
    assert all(not p.requires_grad and p.grad is None for p in graph.module().parameters())


def test_random_scores_repeat() -> None:
    graph = capture(TextbookNet(), (torch.randn(1, 1, 28, 28),))
    groups = channel_groups(graph)
    one, two = score(graph, groups, "random").values, score(graph, groups, "random").values
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_what_is_missing_is_said() -> None:
    graph = capture(TextbookNet(), (torch.randn(1, 1, 28, 28),))
    groups = channel_groups(graph)
    with pytest.raises(PlanError, match="needs data"):
        score(graph, groups)
    with pytest.raises(PlanError, match=r"Did you mean 'taylor'\?"):
        score(graph, groups, "tailor")
