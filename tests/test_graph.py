"""Capture: the caller's model is left alone, batch is open, train and eval mean what they say."""

from __future__ import annotations

import pytest
import torch
from networks import Residual, TextbookNet, lively
from torch import Tensor, nn

from edgeprune import capture
from edgeprune.errors import CaptureError
from edgeprune.graph import fingerprint, source_of


class Mixed(nn.Module):
    """Batch norm and dropout: what train() and eval() must switch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x))).mean((2, 3))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Aliased(nn.Module):
    """In-place operations through views that are read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.relu_()
        y += 1
        part = y[:, :2]
        part.mul_(2)
        return y.mean((2, 3))


def test_the_callers_model_is_left_as_it_was() -> None:
    model = Mixed().train()
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    graph = capture(model, (torch.randn(1, 3, 8, 8),))
    with torch.no_grad():
        for parameter in graph.module().parameters():
            parameter.zero_()
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_that_cannot_be_copied_is_captured_too() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.made = self.conv.weight * 2  # not a leaf: deepcopy refuses it

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = Held().train()
    graph = capture(model, (torch.randn(1, 3, 8, 8),))
    assert model.training
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(graph.module()(x), model(x))
    assert dict(graph.module().named_parameters())["conv.weight"] is not model.conv.weight


def test_names_and_outputs_are_the_users() -> None:
    model = lively(Residual())
    graph = capture(model, (torch.randn(1, 3, 16, 16),))
    assert dict(graph.module().named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert set(graph.module().state_dict()) == set(model.state_dict())
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 16, 16)
        assert torch.equal(graph.module()(x), model(x))


def test_train_and_eval_switch_batch_norm_and_dropout() -> None:
    module = capture(Mixed(), (torch.randn(1, 3, 8, 8),)).module()
    x = torch.randn(16, 3, 8, 8) + 3
    assert torch.equal(module(x), module(x))
    before = module.state_dict()["norm.running_mean"].clone()
    module.train()
    assert not torch.equal(module(x), module(x))
    assert not torch.equal(module.state_dict()["norm.running_mean"], before)
    module.eval()
    assert torch.equal(module(x), module(x))


def test_in_place_operations_keep_their_meaning() -> None:
    model = Aliased().eval()
    graph = capture(model, (torch.randn(1, 3, 8, 8),))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(graph.module()(x), model(x))
    names = [str(n.target) for n in graph.program.graph.nodes]
    assert "aten.relu_.default" not in names  # nobody holds a view of it
    assert "aten.mul_.Tensor" not in names  # y is read after a view of it changed: put together


def test_a_refusal_says_why_and_where() -> None:
    with pytest.raises(CaptureError, match=r"(?s)torch\.export refused.*test_graph\.py:\d+"):
        capture(Branching(), (torch.randn(2, 3),))


def test_inputs_must_be_tensors() -> None:
    with pytest.raises(CaptureError, match="example inputs as tensors"):
        capture(TextbookNet(), ())


def test_the_fingerprint_is_of_the_structure() -> None:
    shape = (torch.randn(1, 1, 28, 28),)
    one, two = capture(TextbookNet(), shape), capture(TextbookNet(), shape)
    assert fingerprint(one) == fingerprint(two)
    wider = TextbookNet()
    wider.fc1, wider.fc2 = nn.Linear(392, 65), nn.Linear(65, 10)
    assert fingerprint(capture(wider, shape)) != fingerprint(one)


def test_a_node_knows_the_users_line() -> None:
    graph = capture(TextbookNet(), (torch.randn(1, 1, 28, 28),))
    conv = next(n for n in graph.program.graph.nodes if "conv2d" in str(n.target))
    assert source_of(conv).startswith("networks.py:")
    assert "self.conv1(x)" in source_of(conv)


class _Writes(nn.Module):
    """Writes through views, of another layer's output and of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        y[:, 2:6] = self.b(x)
        y[:, :, 1:] += 1.5
        return self.head(y)


def test_a_network_that_writes_through_views_can_be_trained() -> None:
    torch.manual_seed(0)
    model, x = _Writes(), torch.randn(2, 3, 8, 8)
    module = capture(model, (x[:1],)).module().train()
    module(x).square().mean().backward()
    model(x).square().mean().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad)
