"""Every criterion against a reference that knows nothing of slices' arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import Residual, lively
from numpy.typing import NDArray
from test_scoring import Batches
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgeprune import capture, channel_groups, score
from edgeprune.choices import CRITERIA
from edgeprune.errors import PlanError
from edgeprune.records import ChannelGroup, ChannelGroups, Graph
from edgeprune.scoring import criteria
from edgeprune.scoring.core import _CRITERIA, vectors


class Chain(nn.Module):
    """A convolution, its norm, a depthwise one, two readers of one tensor, and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.left = nn.Conv2d(8, 12, 1)
        self.right = nn.Conv2d(8, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        x = self.read(x, gates)
        return self.head(torch.relu(self.grouped(self.sum(x))).mean((2, 3)))

    def read(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        x = torch.relu(self.deep(torch.relu(self.norm(self.stem(x)))))
        return x if gates is None else x * gates[:, :, None, None]

    def sum(self, x: Tensor) -> Tensor:
        return torch.relu(self.left(x) + self.right(x))


def captured(model: nn.Module, size: int = 8) -> tuple[Graph, ChannelGroups]:
    graph = capture(lively(model), (torch.randn(1, 3, size, size),))
    return graph, channel_groups(graph)


@pytest.fixture(scope="module")
def chain() -> tuple[Chain, Graph, ChannelGroups]:
    torch.manual_seed(0)
    model = Chain()
    return model, *captured(model)


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))


def masks(graph: Graph, group: ChannelGroup, channel: int) -> dict[str, Tensor]:
    """Which elements of which weights a channel owns, by marking them one slice at a time."""
    parameters = {k: p for k, p in graph.program.named_parameters() if p.dim() > 1}
    found: dict[str, Tensor] = {}
    for part in group.slices:
        if part.parameter in parameters:
            mask = found.setdefault(
                part.parameter, torch.zeros_like(parameters[part.parameter], dtype=torch.bool)
            )
            mask.index_fill_(part.dim, torch.from_numpy(part.positions[channel]), True)
    return found


def by_marking(graph: Graph, group: ChannelGroup, power: int) -> NDArray[np.float64]:
    weights = dict(graph.program.named_parameters())
    norms = []
    for channel in range(group.size):
        owned = [
            weights[k][m].detach().double().abs() for k, m in masks(graph, group, channel).items()
        ]
        norms.append(float((torch.cat(owned) ** power).sum() ** (1 / power)))
    return np.array(norms) / np.mean(norms)


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("make", [Chain, Residual])
def test_magnitudes_count_every_element_once(name: str, power: int, make: type[nn.Module]) -> None:
    graph, groups = captured(make())
    got = score(graph, groups, name).values
    for group in groups.groups:
        expected = by_marking(graph, group, power)
        np.testing.assert_allclose(got[group.name], expected, rtol=1e-5)
        weights = [
            s for s in group.slices if "norm" not in s.parameter and "bias" not in s.parameter
        ]
        for part in weights:
            less = replace(group, slices=tuple(s for s in group.slices if s is not part))
            fewer = replace(groups, groups=(less,))
            assert not np.allclose(score(graph, fewer, name).values[group.name], expected)


def test_the_chain_has_what_the_tests_are_about(chain: tuple[Chain, Graph, ChannelGroups]) -> None:
    _, _, groups = chain
    first = groups["stem"]
    owned = {s.parameter for s in first.slices}
    assert {"stem.weight", "deep.weight", "norm.weight", "left.weight", "right.weight"} <= owned
    residual = captured(Residual())[1]
    both = [s.parameter for g in residual.groups for s in g.slices]
    assert any(both.count(name) > 1 for name in both), "a layer whose ends are one group"


def test_bn_is_the_scale_and_l2_where_there_is_none(
    chain: tuple[Chain, Graph, ChannelGroups],
) -> None:
    model, graph, groups = chain
    got = score(graph, groups, "bn").values
    scale = model.norm.weight.detach().abs().numpy()
    np.testing.assert_allclose(got["stem"], scale, rtol=1e-6)
    magnitude = score(graph, groups, "l2").values
    other = next(g.name for g in groups.groups if g.name != "stem")
    np.testing.assert_allclose(got[other], scale.mean() * magnitude[other], rtol=1e-6)
    assert got[other].mean() == pytest.approx(scale.mean())


def test_bn_of_two_norms_is_their_mean_and_needs_one() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1)
            self.one, self.two = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
            self.head = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.one(self.a(x)) + self.two(self.b(x))))

    model = Two()
    graph, groups = captured(model)
    (got,) = score(graph, groups, "bn").values.values()
    both = (model.one.weight.abs() + model.two.weight.abs()).detach().numpy() / 2
    np.testing.assert_allclose(got, both, rtol=1e-6)
    bare, bare_groups = captured(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)))
    with pytest.raises(PlanError, match="this network has none"):
        score(bare, bare_groups, "bn")


def test_fisher_is_half_the_mean_squared_derivative_of_a_gate(
    chain: tuple[Chain, Graph, ChannelGroups], batch: tuple[Tensor, Tensor]
) -> None:
    model, graph, groups = chain
    inputs, targets = batch
    got = score(graph, groups, "fisher", Batches([batch])).values["stem"]
    squares = torch.zeros(8)
    for image, target in zip(inputs.split(1), targets.split(1), strict=True):
        gate = torch.ones(1, 8, requires_grad=True)
        (slope,) = torch.autograd.grad(cross_entropy(model(image, gate), target), gate)
        squares += slope[0].square() / 2
    np.testing.assert_allclose(got, squares.numpy() / len(inputs), rtol=1e-4)


def test_fisher_and_taylor_agree_on_one_sample(
    chain: tuple[Chain, Graph, ChannelGroups], batch: tuple[Tensor, Tensor]
) -> None:
    """Of one sample the one is half the square of the other, in every group: also behind tied
    parts of a grouped convolution."""
    _, graph, groups = chain
    one = Batches([(batch[0][:1], batch[1][:1])])
    squared, first = (score(graph, groups, name, one).values for name in ("fisher", "taylor"))
    for group in groups.groups:
        np.testing.assert_allclose(
            squared[group.name], first[group.name] ** 2 / 2, rtol=1e-3, atol=1e-12
        )


def test_fisher_finds_the_samples_where_windows_or_time_come_first() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x.transpose(0, 1)).relu()  # (time, batch, channels)
            x = self.two(x).transpose(0, 1)
            return x.mean(1)

    torch.manual_seed(0)
    model = Turned()
    graph = capture(model, (torch.randn(1, 4, 3),))
    groups = channel_groups(graph)
    x, y = torch.randn(6, 4, 3), torch.randint(0, 5, (6,))
    together = score(graph, groups, "fisher", Batches([(x, y)])).values
    apart = [
        score(graph, groups, "fisher", Batches([pair])).values
        for pair in zip(x.split(1), y.split(1), strict=True)
    ]
    for name, values in together.items():
        np.testing.assert_allclose(values, np.mean([a[name] for a in apart], axis=0), rtol=1e-4)


def test_activation_is_the_mean_of_what_the_readers_read(
    chain: tuple[Chain, Graph, ChannelGroups], batch: tuple[Tensor, Tensor]
) -> None:
    model, graph, groups = chain
    inputs, _ = batch
    got = score(graph, groups, "activation", Batches([batch])).values
    with torch.no_grad():
        read = model.read(inputs)
        means = read.abs().mean((0, 2, 3)).numpy()  # left and right read one tensor, once
        np.testing.assert_allclose(got["stem"], means / means.mean(), rtol=1e-5)
        summed = model.sum(read)
        pooled = torch.relu(model.grouped(summed)).mean((2, 3))
    last = next(g for g in groups.groups if any(s.parameter == "head.weight" for s in g.slices))
    columns = next(s.positions for s in last.slices if s.parameter == "head.weight")
    means = pooled.abs().mean(0).numpy()[columns].mean(1)
    reads_grouped = any(s.parameter == "grouped.weight" and s.role == "in" for s in last.slices)
    assert not reads_grouped
    np.testing.assert_allclose(got[last.name], means / means.mean(), rtol=1e-5)
    other = next(g for g in groups.groups if any(s.parameter == "left.weight" and s.role == "out"
                 for s in g.slices))  # fmt: skip
    half = next(s.positions for s in other.slices if s.parameter == "grouped.weight")
    means = summed.abs().mean((0, 2, 3)).numpy()
    both = (means[half] + means[half + 6]).mean(1)
    np.testing.assert_allclose(got[other.name], both / both.mean(), rtol=1e-5)


def test_fpgm_is_the_sum_of_distances(chain: tuple[Chain, Graph, ChannelGroups]) -> None:
    _, graph, groups = chain
    weights = dict(graph.program.named_parameters())
    got = score(graph, groups, "fpgm").values
    for group in groups.groups:
        rows = []
        for channel in range(group.size):
            marked = masks(graph, group, channel).items()
            rows.append(torch.cat([weights[name][mask].detach().double() for name, mask in marked]))
        sums = np.array([sum(float((a - b).norm()) for b in rows) for a in rows])
        np.testing.assert_allclose(got[group.name], sums / sums.mean(), rtol=1e-5)


def test_lsh_finds_what_repeats_and_keeps_one_of_it() -> None:
    torch.manual_seed(0)
    graph, groups = captured(Chain())
    group = groups["stem"]
    weights = dict(graph.program.named_parameters())
    with torch.no_grad():
        for part in group.slices:
            if part.parameter in weights and weights[part.parameter].dim() > 1:
                rows = weights[part.parameter].movedim(part.dim, 0)
                rows[part.positions[5]] = rows[part.positions[2]] * 0.9
    got = score(graph, groups, "lsh").values["stem"]
    assert got[5] == 0
    assert np.delete(got, 5).min() > 0.4
    pieces = torch.cat(vectors(group, weights), 1).double()
    units = pieces / pieces.norm(dim=1, keepdim=True)
    order = pieces.norm(dim=1).argsort(descending=True).tolist()
    for place, channel in enumerate(order):
        angles = torch.arccos((units[order[:place]] @ units[channel]).clamp(-1, 1))
        nearest = float(angles.min()) if place else np.pi
        assert got[channel] == pytest.approx(2 * nearest / np.pi, abs=0.25)


def test_data_is_not_needed_to_be_shuffled_or_the_module_changed(
    chain: tuple[Chain, Graph, ChannelGroups], batch: tuple[Tensor, Tensor]
) -> None:
    _, graph, groups = chain
    before = {k: v.clone() for k, v in graph.program.state_dict().items()}
    graph.program.train()
    for name in criteria():
        one = score(graph, groups, name, Batches([batch])).values
        two = score(graph, groups, name, Batches([batch])).values
        for group in groups.groups:
            assert one[group.name].shape == (group.size,)
            assert np.isfinite(one[group.name]).all()
            assert (one[group.name] >= 0).all()
            np.testing.assert_array_equal(one[group.name], two[group.name])
    assert graph.program.training
    graph.program.eval()
    assert all(torch.equal(v, before[k]) for k, v in graph.program.state_dict().items())


def test_every_word_has_its_function_its_line_and_its_paper() -> None:
    assert set(criteria()) == set(CRITERIA)
    for name, function in _CRITERIA.items():
        assert CRITERIA[name].description
        assert function.__doc__ is not None
        assert " et al." in function.__doc__ or "Charikar" in function.__doc__
    graph, groups = captured(Residual())
    for name, choice in CRITERIA.items():
        if choice.needs_data:
            with pytest.raises(PlanError, match="needs data"):
                score(graph, groups, name)
