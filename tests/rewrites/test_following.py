"""The kernels that are priced are those of the lowered program, rewritten or not, at any widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from calls import HERE
from priced import lowered, priced
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from edgeprune.channels import channel_groups
from edgeprune.cost.kernels import kernels
from edgeprune.graph import capture
from edgeprune.planning import plan
from edgeprune.records import ChannelGroups, Graph, Scores, Target
from edgeprune.rewrites import applies, as_run, rewrites_of
from edgeprune.surgery import prune

PLAIN = replace(HERE, rewrite=False)


class Encoder(nn.Module):
    """A vision transformer of one layer: patches, a token, attention, mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 24))
        self.norm = nn.LayerNorm(24)
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)
        self.grow, self.shrink = nn.Linear(24, 40), nn.Linear(40, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.shrink(F.gelu(self.grow(x)))
        return self.head(x.mean(1) + x[:, 0])


class Pools(nn.Module):
    """An average pooling that pads, as inception has them, and one to sizes that do not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.left, self.right = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 10, 3, padding=1)
        self.head = nn.Linear(22, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = torch.cat([F.relu(self.left(F.avg_pool2d(x, 3, 1, 1))), F.relu(self.right(x))], 1)
        x = F.adaptive_avg_pool2d(x, (3, 5))
        return self.head(x.mean((2, 3)))


class Windows(nn.Module):
    """Shifted windows: a roll, a mask that is made anew every time, attention by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 2, 2)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.embed(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        n, h, w, c = x.shape
        x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(n * (h // 4) * (w // 4), 16, c)
        qkv = self.qkv(x).reshape(x.shape[0], 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        scores = qkv[0] * 0.3 @ qkv[1].transpose(-2, -1)
        mask = x.new_zeros((h, w))
        mask[: h - 1] = 1
        rows = mask.view(h // 4, 4, w // 4, 4).permute(0, 2, 1, 3).reshape(-1, 16)
        away = rows.unsqueeze(1) - rows.unsqueeze(2)
        away = away.masked_fill(away != 0, -100.0).masked_fill(away == 0, 0.0)
        scores = scores.view(n, away.shape[0], 2, 16, 16) + away[None, :, None]
        x = F.softmax(scores.view(-1, 2, 16, 16), -1) @ qkv[2]
        x = self.out(x.transpose(1, 2).reshape(n, -1, c))
        return self.head(x.mean(1))


NETWORKS = {"encoder": Encoder, "pools": Pools, "windows": Windows}


def subject(name: str) -> tuple[Graph, ChannelGroups]:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    graph = capture(model, (torch.randn(1, 3, 16, 16),), name=name)
    return graph, channel_groups(graph)


def half(graph: Graph, groups: ChannelGroups) -> tuple[Graph, dict[str, int]]:
    rng = np.random.default_rng(0)
    scores = Scores("random", {g.name: rng.uniform(size=g.size) for g in groups.groups})
    made = plan(graph, groups, scores, keep=0.6)
    return prune(graph, made), made.widths()


def check(name: str, target: Target, path: Path, *, pruned: bool) -> None:
    graph, groups = subject(name)
    run, known = as_run(graph, groups, target)
    found = kernels(run, known.extents)
    program, widths = half(graph, groups) if pruned else (graph, groups.full_widths())
    assert pruned == (widths != groups.full_widths())
    assert priced(tuple(kernel.at(widths) for kernel in found)) == lowered(program, target, path)


@pytest.mark.parametrize("name", ["encoder", "pools"])
def test_a_pruned_rewritten_program_runs_the_kernels_that_are_priced(
    name: str, tmp_path: Path
) -> None:
    check(name, HERE, tmp_path / "program.pte", pruned=True)


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_rewritten_program_runs_the_kernels_that_are_priced(
    name: str, pruned: bool, tmp_path: Path
) -> None:
    check(name, HERE, tmp_path / "program.pte", pruned=pruned)


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
def test_a_plain_program_runs_the_kernels_that_are_priced(pruned: bool, tmp_path: Path) -> None:
    check("pools", PLAIN, tmp_path / "program.pte", pruned=pruned)


def test_kernels_say_which_captured_nodes_they_are_a_part_of() -> None:
    graph, groups = subject("encoder")
    run, known = as_run(graph, groups, HERE)
    names = {node.name for node in graph.program.graph.nodes}
    found = kernels(run, known.extents)
    assert {name for kernel in found for name in kernel.nodes} <= names
    attention = [k.op for k in found if k.nodes == ("scaled_dot_product_attention",)]
    assert attention == ["mul", "transpose", "bmm", "softmax", "bmm"]
    assert rewrites_of(graph, HERE)["attention"] == 1


def test_what_needs_no_rewriting_is_left_as_it_is() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    graph = capture(model.eval(), (torch.randn(1, 3, 8, 8),))
    groups = channel_groups(graph)
    assert as_run(graph, groups, HERE) == (graph, groups)
    assert not rewrites_of(graph, HERE)


def test_other_targets_are_not_rewritten() -> None:
    graph, groups = subject("pools")
    for target in (PLAIN, replace(HERE, dtype="int8"), replace(HERE, backend="ethos-u")):
        assert not applies(target)
        assert as_run(graph, groups, target) == (graph, groups)


def test_tables_computed_from_parameters_shrink_with_what_they_are_added_to() -> None:
    """Shifted windows, padded: the table of each head is looked up in a parameter once."""
    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 12, [2], [3], [3, 3], stochastic_depth_prob=0.0).eval()
    graph = capture(model, (torch.randn(1, 3, 32, 32),))
    run, groups = as_run(graph, channel_groups(graph), HERE)
    heads = {name: 1 for name in groups.full_widths() if name.endswith(".heads")}
    widths = {**groups.full_widths(), **heads}
    assert len(heads) == 2
    for node in run.program.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor):
        known = [x for x in node.all_input_nodes if x.name in groups.extents]
        shapes = [[e.at(widths) for e in groups.extents[x.name]] for x in [node, *known]]
        assert shapes[0] == list(torch.broadcast_shapes(*shapes[1:]))
