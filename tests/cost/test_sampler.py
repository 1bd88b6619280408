"""The measuring process, and `profile` on top of it: real kernels on the real runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from edgeprune.channels import channel_groups
from edgeprune.cost import profile, profiling, sampler
from edgeprune.cost.sampler import Effort, sample
from edgeprune.cost.table import SCHEMA
from edgeprune.errors import MeasureError, TargetError
from edgeprune.graph import capture
from edgeprune.records import KernelKey
from edgeprune.targets import load_target

ADD = KernelKey("add", ((256,), (256,)))
LINEAR = KernelKey("linear", ((1, 64),), (("out_channels", 32),))
SPLIT = KernelKey(
    "portable:aten.chunk.default", ((1, 8, 4, 4),), (("call", '[[{"tensor": 0}, 2, 1], {}]'),)
)
UNKNOWN = KernelKey("portable:aten.there_is_none.default", ((4,),), (("call", "[[], {}]"),))
QUICK = Effort(seconds=1, rounds=6)


def test_samples_come_for_every_kernel():
    told = []
    with pytest.warns(UserWarning, match="there_is_none"):
        found = dict(
            sample([ADD, LINEAR, SPLIT, UNKNOWN], 1, QUICK, progress=lambda *a: told.append(a[1]))
        )
    assert set(found) == {ADD, LINEAR, SPLIT}
    assert all(5 <= len(samples) <= 6 for samples in found.values())
    assert all(us > 0 for samples in found.values() for us in samples)
    assert told == [1, 2, 3, 4]


def test_nothing_to_measure_starts_no_process(monkeypatch):
    monkeypatch.setattr(sampler, "WORKER", "there.is.no.such.module")
    assert list(sample([], 1)) == []


def test_a_dead_worker_is_told_with_its_last_words():
    impossible = KernelKey("linear", ((1, 64),), (("no_channels", 1),))
    with pytest.raises(MeasureError, match=r"(?s)exited with code 1.*out_channels"):
        list(sample([impossible], 1, QUICK))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 20, 3, padding=1)
        self.head = nn.Linear(20, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        return self.head(x.mean((2, 3)))


def test_a_network_is_profiled_once(tmp_path, monkeypatch):
    graph = capture(Small().eval(), (torch.randn(1, 3, 12, 12),))
    groups, target = channel_groups(graph), load_target("host")
    full = groups.full_widths()
    assert full == {"first": 12, "second": 20}
    cost = profile(graph, target, groups, table=tmp_path / "costs.sqlite")
    assert 0 < cost.latency_ms({"first": 2, "second": 3}) < cost.latency_ms(full) * 2
    assert cost.size_bytes(full) > cost.size_bytes({"first": 6, "second": 10})
    assert sum(cost.kernel_us(k.at(full)) for k in cost.kernels) == pytest.approx(
        cost.latency_ms(full) * 1000
    )
    # All is in the table now: nothing may be executed again, and the answer is the same.
    monkeypatch.setattr(sampler, "WORKER", "there.is.no.such.module")
    again = profile(graph, target, groups, table=tmp_path / "costs.sqlite")
    assert again.latency_ms(full) == cost.latency_ms(full)


def test_another_target_is_refused(tmp_path):
    target = replace(load_target("host"), dtype="fp16", name="tiny")
    graph = capture(nn.Linear(4, 4).eval(), (torch.randn(1, 4),))
    with pytest.raises(TargetError, match=r"'tiny'.*dtype=fp16"):
        profile(graph, target, channel_groups(graph), table=tmp_path / "costs.sqlite")


def test_the_default_table_is_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    path = profiling.default_path()
    assert path.is_relative_to(tmp_path)
    assert path.name == f"costs-v{SCHEMA}.sqlite"
