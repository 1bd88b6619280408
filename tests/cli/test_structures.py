"""Every structure from the command line, alone and together: channels, hidden units, head widths,
whole heads, residual blocks, single weights; in plans, in programs and in what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from kept_statistics import KeptStatistics
from networks import relative_error

from edgeprune import capture, channel_groups, prune
from edgeprune.blocks import blocks
from edgeprune.models import ModelRequest, load_model
from edgeprune.plans import Plan

NET = '''
import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def attention(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Tiny(nn.Module):
    """A stem of convolutions, then a transformer over its patches."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.patches = nn.Conv2d(8, 16, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 16, 16) * 0.1)
        self.layers = nn.Sequential(*(Layer(16, 2) for _ in range(3)))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.patches(F.relu(self.norm(self.conv(x))))
        x = self.layers(x.flatten(2).transpose(1, 2) + self.position)
        return self.head(x.mean(1))


def make():
    torch.manual_seed(0)
    return Tiny().eval()
'''
SHAPE = (1, 16, 16)
QKV = "layers.0.qkv"
ALONE: dict[str, tuple[dict[str, list[int]], dict[str, tuple[int, ...]]]] = {
    # kept channels → shapes that follow
    "channels": (
        {"conv": [0, 3, 5]},
        {"conv.weight": (3, 1, 3, 3), "patches.weight": (16, 3, 4, 4)},
    ),
    "embedding width": (
        {"patches": list(range(10))},
        {"patches.weight": (10, 8, 4, 4), "position": (1, 16, 10), "head.weight": (10, 10)},
    ),
    "hidden units": (
        {"layers.1.mlp.0": [1, 2, 30]},
        {"layers.1.mlp.0.weight": (3, 16), "layers.1.mlp.2.weight": (16, 3)},
    ),
    "head width": (
        {QKV: [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]},
        {f"{QKV}.weight": (2 * 10 + 16, 16), "layers.0.proj.weight": (16, 16)},
    ),
    "whole heads": (
        {f"{QKV}.heads": [1]},
        {f"{QKV}.weight": (24, 16), "layers.0.proj.weight": (16, 8)},
    ),
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("structures") / "tiny_transformer.py"
    path.write_text(NET)
    return path


@pytest.fixture
def model(net):
    return ["--model", f"{net}:make", "--input", "1x1x16x16"]


@pytest.fixture(scope="module")
def graph(net):
    module = load_model(ModelRequest(f"{net}:make", None, (1, *SHAPE))).module
    return capture(module, (torch.randn(1, *SHAPE),), name="make")


def written(edgeprune, model, path: Path, *words: object) -> dict:
    ended = edgeprune("plan", *model, *words, "-o", path)
    assert ended.code == 0, ended.err
    return json.loads(path.read_text())


def agrees(graph, plan: Plan) -> None:
    """The pruned network computes what the zeroed one does, statistics over what is kept."""
    x = torch.randn(2, *SHAPE)
    with torch.no_grad():
        removed = prune(graph, plan).module()(x)
        zeroed = torch.cat([KeptStatistics(graph, plan).run(row) for row in x.split(1)])
    assert relative_error(removed, zeroed) < 1e-4


@pytest.mark.parametrize("name", ALONE)
def test_alone(edgeprune, model, graph, tmp_path, name):
    kept, shapes = ALONE[name]
    path = tmp_path / "plan.json"
    document = written(edgeprune, model, path, "--keep", 1.0)
    document["kept"].update(kept)
    path.write_text(json.dumps(document))  # edited by hand
    ended = edgeprune("plan", *model, "--check", path)
    assert ended.code == 0, ended.err
    plan = Plan.from_json(path.read_text())
    parameters = dict(prune(graph, plan).module().named_parameters())
    assert {name: tuple(parameters[name].shape) for name in shapes} == shapes
    agrees(graph, plan)


def test_a_wrong_edit_is_refused_with_all_its_problems(edgeprune, model, tmp_path):
    path = tmp_path / "plan.json"
    document = written(edgeprune, model, path, "--keep", 1.0)
    document["kept"].update({QKV: [0, 1, 8], f"{QKV}.heads": [], "layers.9.mlp.0": [0]})
    path.write_text(json.dumps(document))
    ended = edgeprune("plan", *model, "--check", path)
    assert ended.code == 2
    said = " ".join(ended.err.split())
    assert "3 problem(s)" in said
    assert "its 2 parts keep unequal counts [2, 1]" in said
    assert f"{QKV}.heads: keeps no channel" in said
    assert "layers.9.mlp.0: no such group" in said


def test_all_together(edgeprune, model, graph, tmp_path):
    path = tmp_path / "plan.json"
    sparse = ["--sparsity", 0.5, "--sparsity-pattern", "l1"]
    ended = edgeprune("plan", *model, "--keep", 0.6, "--drop", "layers.2.mlp", *sparse, "-o", path)
    assert ended.code == 0, ended.err
    assert "drops layers.2.mlp" in ended.out
    document = json.loads(path.read_text())
    document["kept"][f"{QKV}.heads"] = [0]
    path.write_text(json.dumps(document))
    assert edgeprune("plan", *model, "--check", path).code == 0
    plan = Plan.from_json(path.read_text())
    assert plan.dropped == ("layers.2.mlp",)
    assert plan.sparsity is not None
    small = prune(graph, plan).module()
    before = sum(p.numel() for p in graph.module().parameters())
    parameters = dict(small.named_parameters())
    after = sum(p.numel() for p in parameters.values())
    zeros = sum(int((p == 0).sum()) for p in parameters.values())
    assert after < 0.6 * before
    assert zeros > 0.4 * after
    assert parameters["layers.0.proj.weight"].shape[1] < parameters["layers.1.proj.weight"].shape[1]
    assert not any(name.startswith("layers.2.mlp") for name in parameters)
    assert "layers.2.mlp" in {block.name for block in blocks(graph)}
    # without the masks it is exactly the zeroed network
    agrees(graph, Plan(plan.kept, plan.sizes, plan.fingerprint, dropped=plan.dropped))


def test_all_together_in_a_program(edgeprune, model, graph, tmp_path):
    path, program = tmp_path / "plan.json", tmp_path / "small.pte"
    words = ["--keep", 0.5, "--drop", "layers.1.mlp", "--sparsity", 0.6]
    written(edgeprune, model, path, *words)
    ended = edgeprune("lower", *model, "--plan", path, "-o", program, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["size_bytes"] == program.stat().st_size
    assert told["compressed_bytes"] < 0.8 * told["size_bytes"]  # zeros are a smaller download
    groups = channel_groups(graph)
    kept = json.loads(path.read_text())["kept"]
    assert {name for name in kept if name.endswith(".heads")} == {
        g.name for g in groups.groups if g.holds
    }
