"""Layers with weights, of every kind: which channels they make and read, and what stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from exactness import EXACT, captured, check
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from edgeprune import prune
from edgeprune.planning import plan
from edgeprune.plans import Plan

Made = tuple[nn.Module, Tensor]
S = nn.Sequential


def row() -> Tensor:
    return torch.randn(1, 3, 16)


def image() -> Tensor:
    return torch.randn(1, 3, 8, 8)


def film() -> Tensor:
    return torch.randn(1, 3, 4, 6, 6)


class Words(nn.Module):
    def __init__(self, bag: bool = False) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(10, 12) if bag else nn.Embedding(10, 12, padding_idx=0)
        self.hidden = nn.Linear(12, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.table(words))))


class Again(nn.Module):
    """One block, run three times; a buffer that is read in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 2, 1)
        self.register_buffer("scale", torch.rand(1, 8, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = F.relu(self.norm(self.conv(x))) * self.scale
        return self.head(x * self.scale)


class ThereAndBack(nn.Module):
    """An autoencoder whose decoder is its encoder's weight, turned."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8) * 0.3)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(F.relu(F.linear(x, self.weight)), self.weight.t()))


class Recurrent(nn.Module):
    def __init__(self, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.stem, self.before = nn.Linear(8, 9), nn.Linear(9, 6)
        self.cell = make(6, 10, batch_first=True)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(self.before(self.stem(x)))[0])


class Stepping(nn.Module):
    """One step of a recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0])


class Frequencies(nn.Module):
    """A learned filter in the frequency domain (Rao et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.before = nn.Linear(8, 9), nn.Linear(9, 12)
        self.filter = nn.Parameter(torch.randn(5, 12, 2))
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.fft.rfft(self.before(self.stem(x)), dim=1)
        made = made * torch.view_as_complex(self.filter.float()).to(made.dtype)
        return self.head(torch.fft.irfft(made, n=8, dim=1))


def conv(*args: int, **options: object) -> nn.Module:
    return nn.Conv2d(*args, **options)  # type: ignore[arg-type]


def after(layer: nn.Module, wide: int) -> Made:
    """conv → a layer that reads 12 channels and makes `wide` → ReLU → conv."""
    return S(conv(3, 12, 3), layer, nn.ReLU(), conv(wide, 2, 1)), image()


CASES: dict[str, tuple[Callable[[], Made], dict[str, int]]] = {
    "1d": (
        lambda: (
            S(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 6, 3, dilation=2), nn.Conv1d(6, 2, 1)),
            row(),
        ),
        {"0": 8, "2": 6},
    ),
    "1d, same": (
        lambda: (S(nn.Conv1d(3, 8, 4, padding="same"), nn.ReLU(), nn.Conv1d(8, 2, 1)), row()),
        {"0": 8},
    ),
    "3d": (
        lambda: (
            S(
                nn.Conv3d(3, 8, (1, 3, 3)),
                nn.BatchNorm3d(8),
                nn.ReLU(),
                nn.Conv3d(8, 6, (3, 1, 1)),
                nn.Conv3d(6, 2, 1),
            ),
            film(),
        ),
        {"0": 8, "3": 6},
    ),
    "transposed": (lambda: after(nn.ConvTranspose2d(12, 6, 2, stride=2), 6), {"0": 12, "1": 6}),
    "transposed 1d": (
        lambda: (
            S(nn.Conv1d(3, 8, 3), nn.ConvTranspose1d(8, 6, 2, stride=2), nn.Conv1d(6, 2, 1)),
            row(),
        ),
        {"0": 8, "1": 6},
    ),
    "transposed 3d": (
        lambda: (S(nn.Conv3d(3, 8, 3), nn.ConvTranspose3d(8, 6, 2), nn.Conv3d(6, 2, 1)), film()),
        {"0": 8, "1": 6},
    ),
    # groups go whole: the positions inside of them are one kernel's
    "transposed, grouped": (lambda: after(nn.ConvTranspose2d(12, 8, 2, groups=4), 8), {"0": 4}),
    "transposed, depthwise": (
        lambda: after(nn.ConvTranspose2d(12, 12, 2, groups=12), 12),
        {"0": 12},
    ),
    "few groups": (lambda: after(conv(12, 18, 3, groups=2), 18), {"0": 6, "1": 9}),
    "many groups": (lambda: after(conv(12, 24, 3, groups=6), 24), {"0": 6}),
    "depthwise": (lambda: after(conv(12, 12, 3, groups=12, padding=2, dilation=2), 12), {"0": 12}),
    "depthwise, twice as many": (lambda: after(conv(12, 24, 3, groups=12), 24), {"0": 12}),
    "one-sided": (lambda: after(conv(12, 10, (1, 5), stride=(1, 2)), 10), {"0": 12, "1": 10}),
    "reflecting": (
        lambda: after(conv(12, 10, 3, padding=1, padding_mode="reflect"), 10),
        {"0": 12, "1": 10},
    ),
    "prelu": (lambda: after(nn.PReLU(12), 12), {"0": 12}),
    "one slope": (lambda: after(nn.PReLU(), 12), {"0": 12}),
    "dropout": (lambda: after(nn.Dropout2d(0.3), 12), {"0": 12}),
    "alpha dropout": (lambda: after(nn.FeatureAlphaDropout(0.3), 12), {"0": 12}),
    "linear over images": (
        lambda: (S(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 7), nn.Linear(7, 2)), image()),
        {"0": 12, "2": 7},
    ),
    "weight norm": (
        lambda: after(parametrizations.weight_norm(conv(12, 9, 3)), 9),
        {"0": 12, "1": 9},
    ),
    "words": (lambda: (Words(), torch.tensor([[1, 2, 3]])), {"table": 12, "hidden": 7}),
    "bags of words": (
        lambda: (Words(bag=True), torch.tensor([[1, 2, 3]])),
        {"table": 12, "hidden": 7},
    ),
    "run again": (lambda: (Again(), image()), {"stem": 8}),
    **{
        f"{make.__name__}": (
            lambda make=make: (Recurrent(make), torch.randn(1, 5, 8)),
            {"stem": 9, "before": 6, "cell.weight_ih_l0": 10},
        )
        for make in (nn.LSTM, nn.GRU, nn.RNN)
    },
    "there and back": (lambda: (ThereAndBack(), torch.randn(1, 8)), {"weight": 12}),
}


@pytest.mark.parametrize("name", CASES)
def test_layers(name: str) -> None:
    torch.manual_seed(0)
    make, groups = CASES[name]
    model, x = make()
    checked = check(lively(model), x, seeds=range(3))
    assert {g.name: g.size for g in checked.groups.groups} == groups


PINNED: dict[str, tuple[Callable[[], Made], dict[str, int], str, set[str]]] = {
    "cell": (
        lambda: (Stepping(), torch.randn(1, 8)),
        {},
        "aten.lstm_cell",
        {"cell.weight_ih", "cell.weight_hh"},
    ),
    "frequencies": (
        lambda: (Frequencies(), torch.randn(1, 8, 8)),
        {"stem": 9},
        "aten.fft_rfft",
        {"before"},
    ),
    "spectral norm": (
        lambda: after(parametrizations.spectral_norm(conv(12, 9, 3)), 9),
        {},
        "aten.vdot",
        {"1"},
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_no_rule_knows_is_pinned_and_listed(name: str) -> None:
    torch.manual_seed(0)
    make, groups, op, names = PINNED[name]
    checked = check(make()[0], make()[1], seeds=range(2))
    assert {g.name: g.size for g in checked.groups.groups} == groups
    listed = {pin.name: pin for pin in checked.groups.pinned}
    assert names <= set(listed)
    for one in names:
        assert listed[one].op == op
        assert listed[one].reason
        assert listed[one].source


def test_tied_weights_are_one_tensor_of_one_size() -> None:
    model = Words()
    model.head = nn.Linear(12, 10, bias=False)
    model.hidden = nn.Linear(12, 12)
    model.head.weight = model.table.weight
    checked = captured(model, torch.tensor([[1, 2, 3]]))
    plan = Plan({"hidden": (1, 4, 5)}, {"hidden": 12}, checked.groups.fingerprint)
    assert checked.error(plan, torch.tensor([[1, 2, 3]])) < EXACT
    small = prune(checked.graph, plan).module()
    state = small.state_dict()
    assert state["head.weight"].shape == state["table.weight"].shape == (10, 3)
    assert state["head.weight"].data_ptr() == state["table.weight"].data_ptr()
    assert sum(p.numel() for p in small.parameters()) == 10 * 3 + 3 * 3 + 3


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.sampled_from([1, 2, 3, 4, 6, 12]),
    out=st.integers(1, 4),
    kernel=st.integers(1, 3),
    transposed=st.booleans(),
)
def test_any_convolution(seed: int, groups: int, out: int, kernel: int, transposed: bool) -> None:
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    model, x = after(layer(12, groups * out, kernel, groups=groups), groups * out)
    check(model, x, seeds=range(seed, seed + 2))


class Excited(nn.Module):
    """A grouped convolution whose outputs are scaled by what is made of them (RegNetY)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = conv(3, 12, 1), conv(12, 24, 3, groups=2)
        self.scale, self.head = conv(24, 24, 1), conv(24, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.mix(self.stem(x)))
        return self.head(x * torch.sigmoid(self.scale(x.mean((2, 3), keepdim=True))))


@pytest.mark.parametrize("inside", [1, 2])
@pytest.mark.parametrize("outside", [1, 3])
def test_a_grouped_convolution_cut_to_one_channel_a_group_is_still_one(
    inside: int, outside: int
) -> None:
    checked = captured(Excited(), image())
    assert checked.groups.full_widths() == {"stem": 6, "mix": 12}
    made = plan(checked.graph, checked.groups, keep={"stem": inside, "mix": outside})
    assert checked.error(made, torch.randn(2, *image().shape[1:], dtype=torch.float64)) < EXACT
