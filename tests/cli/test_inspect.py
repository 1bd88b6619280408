"""What `edgeprune inspect` shows people: 80 columns, repeats folded, heads as heads x width."""

from __future__ import annotations

import json

import pytest

from edgeprune.cli.folding import Row, broken, folded

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(24)
        self.self_attention_with_a_long_name = nn.MultiheadAttention(24, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.self_attention_with_a_long_name(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 24)
        self.encoder = nn.Module()
        self.encoder.layers_of_the_encoder = nn.Sequential(*(Layer() for _ in range(4)))
        self.first, self.second = nn.Linear(24, 12), nn.Linear(24, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.encoder.layers_of_the_encoder(self.stem(x)).mean(1)
        x = self.first(x) * torch.fft.rfft(self.second(x)).abs().sum(1, keepdim=True)
        return self.head(x)


def make():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "net_to_look_at.py"
    path.write_text(NET)
    return ["inspect", "--model", f"{path}:make", "--input", "1x7x6"]


def test_a_transformer_in_80_columns(edgeprune, words):
    ended = edgeprune(*words)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(ended.out.split())
    assert "388 channels and 12 whole heads can be pruned, in 18 groups; 17 are pinned" in text
    assert "layers_of_the_encoder.{0..3}.mlp.0 40 1 1" in text
    assert "3 x 8" in text
    assert "3 heads" in text
    assert ".{0..3}.mlp: 2.0 k parameters each" in text
    # what cannot go says what op it is, and the line
    assert "second: 12 channels, by aten.fft_rfft aten.fft_rfft has no rule net_to_look" in text
    assert "torch.fft.rfft(self.second(x))" in text
    assert len(lines) < 40  # four layers take no more room than one


def test_the_whole_of_it_as_json(edgeprune, words):
    found = json.loads(edgeprune(*words, "--json").out)
    groups = {group["name"]: group for group in found["groups"]}
    assert len(groups) == 18
    prefix = "encoder.layers_of_the_encoder"
    for i in range(4):
        name = f"{prefix}.{i}.self_attention_with_a_long_name.in_proj"
        assert groups[f"{name}.heads"]["holds"] == [name, f"{name}#2"]
        assert groups[name]["parts"] == 3
    assert len(found["blocks"]) == 8
    assert {pin["name"]: pin["op"] for pin in found["pinned"]} == {
        "second": "aten.fft_rfft",
        "head": "output",
    }


def test_folding():
    rows = [Row(f"layers.{i}.{part}", (8,)) for i in (0, 1, 2) for part in ("a", "b")]
    rows += [Row("layers.3.a", (9,)), Row("conv1", (4,)), Row("conv2", (4,)), Row("x.5", (1,))]
    assert [(row.name, row.times) for row in folded(rows)] == [
        ("layers.{0..2}.a", 3),
        ("layers.{0..2}.b", 3),
        ("layers.3.a", 1),
        ("conv1", 1),
        ("conv2", 1),
        ("x.5", 1),
    ]
    apart = folded([Row(f"b.{i}.c.{j}", ()) for i in (0, 2) for j in (1, 3, 4)])
    assert [row.name for row in apart] == ["b.0.c.{1,3,4}", "b.2.c.{1,3,4}"]


def test_names_are_broken_after_dots():
    name = "encoder.layers.encoder_layer_{0..11}.self_attention.in_proj"
    assert broken(name, 46).split("\n") == [
        "encoder.layers.encoder_layer_{0..11}.",
        "  self_attention.in_proj",
    ]
    assert broken("short.name", 46) == "short.name"


POOLS = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AvgPool2d(3, 1, 1), nn.Conv2d(8, 4, 1))
"""


def test_what_stays_outside_the_delegate_and_what_was_rewritten(edgeprune, tmp_path):
    path = tmp_path / "pools_to_look_at.py"
    path.write_text(POOLS)
    words = ["inspect", "--model", f"{path}:make", "--input", "1x3x16x16", "--cost", "--json"]
    words += ["--target", "raspberry-pi-5-estimate"]
    rewritten, plain = (json.loads(edgeprune(*words, *more).out) for more in ([], ["--no-rewrite"]))
    assert rewritten["rewrites"] == {"average pooling": 1}
    assert rewritten["outside"] == []
    assert plain["rewrites"] == {}
    assert [(one["op"], one["count"]) for one in plain["outside"]] == [
        ("aten.avg_pool2d.default", 1)
    ]
    assert plain["outside"][0]["us"] > 0
