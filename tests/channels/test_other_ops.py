"""Ops beside convolutions and attention: recurrences, gates, grids, maps, single channels."""

from __future__ import annotations

import pytest
import torch
from exactness import Checked, captured, check
from networks import random_plan
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from edgeprune import capture, channel_groups, mask, plan, prune
from edgeprune.writeback import to_module


class Recurrent(nn.Module):
    """A recurrent layer between two others; the whole sequence and the last state come out."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.layer = layer
        self.head = nn.Linear(width, 3)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made, state = self.layer(self.first(x))
        state = state[0] if isinstance(state, tuple) else state
        return self.head(made), self.last(state.sum(0))


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_lose_inputs_and_units(
    kind: type[nn.Module], layers: int, both_ways: bool
) -> None:
    torch.manual_seed(0)
    layer = kind(6, 8, num_layers=layers, bidirectional=both_ways, batch_first=True)
    checked = check(Recurrent(layer, 16 if both_ways else 8), torch.rand(1, 5, 4), seeds=range(2))
    assert sorted(g.size for g in checked.groups.groups) == [6, 8]


def test_units_that_start_from_an_input_stay() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(4, 8, batch_first=True, bias=False)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            return self.layer(x, state)[0].sum(-1)

    checked = captured(Stateful(), torch.rand(2, 5, 4), torch.rand(1, 2, 8))
    assert checked.groups.groups == ()
    assert "starts from a state" in _reason(checked, "layer.weight_hh_l0")


def _reason(checked: Checked, start: str) -> str:
    names = [p for p in checked.groups.pinned if start.startswith(p.name)]
    return next((p.reason for p in checked.groups.pinned if p.name == start), "") or (
        names[0].reason if names else "; ".join(p.reason for p in checked.groups.pinned)
    )


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv1d(3, 12, 1)
        self.down = nn.Conv1d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.glu(self.up(x), dim=1))


def test_gates_go_with_what_they_gate() -> None:
    checked = check(Gated(), torch.rand(1, 3, 7), seeds=range(2))
    assert [g.size for g in checked.groups.groups] == [6]


class FirstMap(nn.Module):
    """A linear layer makes the first map of a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6 * 5 * 5)
        self.norm = nn.BatchNorm2d(6)
        self.out = nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x).view(-1, 6, 5, 5))
        return self.out(F.interpolate(F.relu(x), scale_factor=2))


def test_a_channel_of_the_first_map_goes_with_all_its_positions() -> None:
    checked = check(FirstMap(), torch.rand(1, 4), seeds=range(2))
    (group,) = checked.groups.groups
    assert group.size == 6
    rows = next(s for s in group.slices if s.parameter == "first.weight")
    assert rows.positions[1].tolist() == list(range(25, 50))


class Levels(nn.Module):
    """One gate channel is cut out for each level, as focal modulation does."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8 + 2, 1)
        self.a = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        made, gates = torch.split(self.proj(x), (8, 2), 1)
        made = self.a(made)
        total = made * gates[:, 0:1]
        return self.out(total + self.b(made) * gates[:, 1:2])


def test_single_channels_that_are_cut_out_stay() -> None:
    checked = check(Levels(), torch.rand(1, 3, 6, 6), seeds=range(3))
    assert [g.size for g in checked.groups.groups] == [8]
    assert {p.reason for p in checked.groups.pinned if p.size == 2} >= {
        "a single channel is cut out"
    }


class Loudest(nn.Module):
    """The largest channel at every position, and perhaps which one it is."""

    def __init__(self, tells: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.out = nn.Conv2d(8, 2, 1)
        self.tells = tells

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        value, index = torch.max(x, 1, keepdim=True)
        return self.out(x * torch.sigmoid(value)), index if self.tells else value


def test_the_largest_of_the_channels_runs_over_those_kept() -> None:
    checked = check(Loudest(tells=False), torch.rand(1, 3, 6, 6), seeds=range(2))
    assert [g.size for g in checked.groups.groups] == [8]


def test_channels_that_are_told_by_number_keep_it() -> None:
    checked = captured(Loudest(tells=True), torch.rand(1, 3, 6, 6))
    assert checked.groups.groups == ()
    assert any("by its number" in p.reason for p in checked.groups.pinned)


class Sampled(nn.Module):
    """Features read where a computed grid says."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        self.grid = nn.Conv2d(3, 2, 1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.tanh(self.grid(x)).permute(0, 2, 3, 1)
        return self.out(F.grid_sample(self.features(x), grid, align_corners=False))


def test_sampled_features_lose_channels_and_grids_do_not() -> None:
    checked = check(Sampled(), torch.rand(1, 3, 6, 6), seeds=range(2))
    assert [(g.name, g.size) for g in checked.groups.groups] == [("features", 8)]
    assert "says where to sample" in _reason(checked, "grid")


def test_weight_norm_is_pruned_and_zeroed_without_dividing_by_zero() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(weight_norm(nn.Conv1d(2, 8, 3)), nn.ReLU(), weight_norm(nn.Conv1d(8, 3, 1)))
    checked = check(net, torch.rand(1, 2, 9), seeds=range(2))
    assert [g.size for g in checked.groups.groups] == [8]
    chosen = random_plan(checked.groups, 0)
    zeroed = mask(checked.graph, chosen).module()(torch.rand(2, 2, 9).double())
    assert bool(zeroed.isfinite().all())


class Twice(nn.Module):
    """Layers that are registered under two names, and an output tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.one = nn.Linear(8, 12)
        self.net = nn.Sequential(self.one, nn.ReLU(), nn.Linear(12, 8))
        self.out = nn.Linear(8, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.net(self.table(tokens)))


def test_a_tensor_of_several_names_stays_one() -> None:
    net = Twice()
    checked = check(net, torch.randint(0, 7, (1, 5)), seeds=range(2))
    assert sorted(g.size for g in checked.groups.groups) == [8, 12]
    small = prune(checked.graph, plan(checked.graph, checked.groups, keep=0.5)).module()
    assert small.one.weight is small.net.get_submodule("0").weight
    assert small.out.weight is small.table.weight
    assert small.table.weight.shape == (7, 4)
    count = sum(p.numel() for p in small.parameters())
    assert count == 7 * 4 + (4 * 6 + 6) + (6 * 4 + 4)
    assert count < 0.6 * sum(p.numel() for p in net.parameters())


def test_a_batch_that_the_model_reads_as_a_number_is_not_open() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(6))
            self.proj = nn.Linear(4, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(len(x), 1, -1), self.proj(x)], 1)
            return self.head(x[:, 0] + x[:, 1])

    checked = captured(Counted(), torch.rand(1, 3, 4))
    assert not checked.graph.dynamic_batch
    chosen = random_plan(checked.groups, 0)
    assert checked.error(chosen, torch.rand(1, 3, 4).double()) < 1e-9


def test_recurrent_layers_are_written_back() -> None:
    torch.manual_seed(0)
    net = Recurrent(nn.LSTM(6, 8, batch_first=True), 8).eval()
    graph = capture(net, (torch.rand(1, 5, 4),))
    chosen = random_plan(channel_groups(graph), 0)
    small = to_module(net, chosen, graph)
    x = torch.rand(2, 5, 4)
    assert small.layer.hidden_size == chosen.widths()["layer.weight_ih_l0"] < 8
    torch.testing.assert_close(small(x), prune(graph, chosen).module()(x))
