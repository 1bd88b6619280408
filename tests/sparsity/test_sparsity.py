"""Zeros: how many, where, and that they stay."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import TextbookNet
from torch import Tensor, nn

from edgeprune import capture, finetune, load_target, lower, plan, prune, sparsify
from edgeprune.choices import PATTERNS
from edgeprune.data import DataRequest, load_data
from edgeprune.errors import PlanError
from edgeprune.records import Graph, Recipe, Sparsity
from edgeprune.sparsity import masks, zero_share
from edgeprune.sparsity.core import _PATTERNS

WEIGHTS = ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def textbook() -> Graph:
    torch.manual_seed(0)
    model = TextbookNet()
    with torch.no_grad():
        model.conv1.weight.mul_(0.01)  # layers of very different scales
        model.fc2.weight.mul_(30)
    return capture(model, (torch.randn(1, 1, 28, 28),))


def weights(graph: Graph) -> dict[str, Tensor]:
    return {k: p.detach() for k, p in graph.program.named_parameters()}


def ranks(pattern: str, value: Tensor) -> np.ndarray:
    """What a pattern ranks by, written a second time."""
    flat = value.double().flatten().numpy()
    return {
        "magnitude": abs(flat),
        "l1": abs(flat) * flat.size / abs(flat).sum(),
        "l2": flat**2 * flat.size / (flat**2).sum(),
    }[pattern]


@pytest.mark.parametrize("pattern", ["l1", "l2", "magnitude"])
@pytest.mark.parametrize("share", [0.31, 0.5, 0.9])
def test_the_count_is_exact_and_the_smallest_go(pattern: str, share: float) -> None:
    graph = textbook()
    before = weights(graph)
    total = sum(before[name].numel() for name in WEIGHTS)
    for scope in ("global", "layer"):
        after = weights(sparsify(graph, Sparsity(pattern, share, scope)))
        gone = {name: (after[name] == 0).flatten().numpy() for name in WEIGHTS}
        if scope == "global":
            assert sum(g.sum() for g in gone.values()) == round(share * total)
            every = np.concatenate([ranks(pattern, before[name]) for name in WEIGHTS])
            zeroed = np.concatenate(list(gone.values()))
            assert every[zeroed].max() <= every[~zeroed].min() * (1 + 1e-5)
        else:
            for name in WEIGHTS:
                assert gone[name].sum() == round(share * gone[name].size), name
                value = ranks(pattern, before[name])
                assert value[gone[name]].max() <= value[~gone[name]].min() * (1 + 1e-5)
        for name, value in after.items():
            left = before[name] if name not in WEIGHTS else before[name] * (value != 0)
            assert torch.equal(value, left), "what stays is as it was"


def test_global_patterns_differ_where_scales_do() -> None:
    graph = textbook()
    found = {p: masks(graph, Sparsity(p, 0.5, "global")) for p in ("l1", "l2", "magnitude")}
    assert not found["magnitude"]["conv1.weight"].any(), "small weights all go"
    for pattern in ("l1", "l2"):
        assert 0.3 < float(found[pattern]["conv1.weight"].float().mean()) < 0.7
    one, two = found["l1"], found["l2"]
    assert any(not torch.equal(one[name], two[name]) for name in WEIGHTS)


class Odd(nn.Module):
    """Input dimensions that four does not divide, groups, a transposed and a depthwise layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 10, 3, padding=1)
        self.two = nn.Conv2d(10, 12, 1, groups=2)
        self.deep = nn.Conv2d(12, 12, 3, groups=12)
        self.back = nn.ConvTranspose2d(12, 6, 2, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.back(self.deep(self.two(self.one(x)).relu()))
        return self.head(self.norm(x).mean((2, 3)))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2)])
def test_n_of_m_holds_in_every_block(n: int, m: int) -> None:
    torch.manual_seed(0)
    graph = capture(Odd(), (torch.randn(1, 3, 8, 8),))
    before, after = weights(graph), weights(sparsify(graph, Sparsity(f"{n}:{m}")))
    inputs = {"back.weight": 0}
    for name in ("one", "two", "deep", "back", "head"):
        name = f"{name}.weight"
        dim = inputs.get(name, 1)
        rows = before[name].movedim(dim, -1).reshape(-1, before[name].shape[dim])
        kept = (after[name] != 0).movedim(dim, -1).reshape(rows.shape)
        for row, stays in zip(rows, kept, strict=True):
            for start in range(0, len(row), m):
                block, mask = row[start : start + m].abs(), stays[start : start + m]
                assert int(mask.sum()) == min(n, len(block))
                assert set(block[mask].tolist()) == set(block.topk(int(mask.sum())).values.tolist())
    for name in ("norm.weight", "norm.bias", "one.bias"):
        assert torch.equal(before[name], after[name])


def test_lsh_zeroes_planted_repeats_and_leaves_orthogonal_rows() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        nn.init.orthogonal_(net[0].weight)
        net[0].weight[7] = 0.8 * net[0].weight[3] + 0.01 * torch.randn(64)
        net[0].weight[20] = 0.5 * net[0].weight[3]
        net[0].weight[21] = -net[0].weight[11]  # the other way is not the same
        nn.init.orthogonal_(net[2].weight)
        nn.init.orthogonal_(net[4].weight)
    graph = capture(net, (torch.randn(1, 64),))

    def gone(request: Sparsity) -> list[int]:
        after = weights(sparsify(graph, request))
        assert all((after[f"{i}.weight"] != 0).any(1).all() for i in (2, 4))
        return (after["0.weight"] == 0).all(1).nonzero().flatten().tolist()

    assert gone(Sparsity("lsh")) == [7, 20]
    assert gone(Sparsity("lsh", 1.2 / 32, "layer")) == [20], "the most similar goes first"
    assert gone(Sparsity("lsh", 2.5 * 64 / (32 * 64 + 8 * 32 + 4 * 8), "global")) == [7, 20]
    assert gone(Sparsity("lsh", 0.5 / 32)) == []
    assert all(gone(Sparsity("lsh", seed=seed)) == [7, 20] for seed in range(5))


def test_lsh_compares_filters_of_one_group_only() -> None:
    torch.manual_seed(0)
    model = Odd()
    with torch.no_grad():
        model.deep.weight.copy_(model.deep.weight[:1].expand_as(model.deep.weight))
        model.two.weight[8] = model.two.weight[1]  # of another group
        model.two.weight[4] = 2 * model.two.weight[2]
        model.back.weight[6:, 2] = model.back.weight[6:, 0]
        model.back.weight[:6, 1] = model.back.weight[6:, 1]
    for name in ("one", "two"):  # random rows of few weights may be alike by chance
        layer = getattr(model, name)
        assert layer.weight.flatten(1).shape[1] >= 5
    kept = masks(capture(model, (torch.randn(1, 3, 8, 8),)), Sparsity("lsh"))
    assert kept["deep.weight"].all()
    rows = kept["two.weight"].flatten(1).any(1)
    assert not rows[2]
    assert rows[[1, 4, 8]].all()
    back = kept["back.weight"]
    assert back[:6].all()
    assert int((~back[6:, 0]).all()) + int((~back[6:, 2]).all()) == 1
    assert back[6:, 1].all()


def test_zeros_stay_through_training_and_into_the_program(tmp_path: Path) -> None:
    data = load_data(DataRequest("digits", (1, 8, 8), batch_size=128))
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 128), nn.ReLU())
    graph = capture(nn.Sequential(*layers, nn.Linear(128, 10)), (torch.randn(1, 1, 8, 8),))
    names = ("0.weight", "3.weight", "5.weight")
    whole = lower(graph, load_target("host"), tmp_path / "whole.pte")
    sparse = sparsify(graph, Sparsity("magnitude", 0.8, "layer"))
    tuned = finetune(sparse, data, Recipe(epochs=1, lr=0.05, weight_decay=1e-3))
    before, after = weights(sparse), weights(tuned)
    for name in names:
        assert torch.equal(before[name] == 0, after[name] == 0), name
        assert not torch.signbit(after[name][after[name] == 0]).any()
        assert not torch.equal(before[name], after[name]), "the others were trained"
    assert zero_share(tuned) == pytest.approx(0.8, abs=0.01)

    held = lower(tuned, load_target("host"), tmp_path / "sparse.pte")
    dense, thin = (a.path.read_bytes() for a in (whole, held))
    words = [np.frombuffer(b[: len(b) // 4 * 4], np.uint32) for b in (dense, thin)]
    zeros = sum(int((after[name] == 0).sum()) for name in names)
    assert int((words[1] == 0).sum()) - int((words[0] == 0).sum()) == pytest.approx(zeros, rel=0.01)
    assert len(thin) == pytest.approx(len(dense), rel=0.01), "a dense file is as large as before"
    assert len(zlib.compress(thin, 9)) < 0.5 * len(zlib.compress(dense, 9))


def test_it_goes_on_top_of_a_structured_cut() -> None:
    graph = textbook()
    small = prune(graph, plan(graph, keep=0.5))
    sparse = sparsify(small, Sparsity("2:4"))
    assert weights(sparse)["conv2.weight"].shape == (4, 2, 3, 3)
    assert zero_share(sparse) > 0.4
    assert zero_share(small) == 0
    again = capture(sparse.module(), sparse.example_inputs)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(again.module()(x), sparse.module()(x))


def test_the_graph_that_is_given_stays_as_it_was() -> None:
    graph = textbook()
    before = {k: v.clone() for k, v in weights(graph).items()}
    graph.program.train()
    assert sparsify(graph, Sparsity("l1", 0.5)).program.training
    assert all(torch.equal(v, before[k]) for k, v in weights(graph).items())
    assert not graph.masks


def test_every_pattern_is_described_and_has_its_function() -> None:
    assert set(PATTERNS) == set(_PATTERNS)
    assert all(function.__doc__ for function in _PATTERNS.values())


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Sparsity("l3", 0.5), "no pattern 'l3'"),
        (Sparsity("N:M"), "no pattern 'N:M'"),
        (Sparsity("4:4"), "keeps everything"),
        (Sparsity("2:4", 0.5), "leave the share out"),
        (Sparsity("l1"), "needs a share"),
        (Sparsity("l1", 1.5), "between 0 and 1"),
        (Sparsity("l1", 0.5, "somewhere"), "no scope"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_said(request_: Sparsity, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        sparsify(textbook(), request_)
