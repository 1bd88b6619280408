"""A device that cannot be reached drives the plan: kit made, run apart, imported, planned with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kits_at_work import HOST, Ran, run_kit
from torch import nn

from edgeprune.channels import channel_groups
from edgeprune.cli import main
from edgeprune.cost.known import KnownRuns
from edgeprune.cost.table import CostTable
from edgeprune.cost.wanted import everything
from edgeprune.errors import DataError, MeasureError
from edgeprune.graph import capture
from edgeprune.importing import import_into_table
from edgeprune.kit import Wanted, make_kit
from edgeprune.kit.packing import packed
from edgeprune.measuring import measure
from edgeprune.measuring.kernels import profile
from edgeprune.measuring.results import Result, read_result
from edgeprune.planning import plan
from edgeprune.records import Budget, Graph, Reach, Target
from edgeprune.scoring import score

PHONE = Target(
    "phone", "somebody else's", "xnnpack", "kit", "fp32", 1, "measured", requires="Linux"
)


def network(width: int = 24) -> Graph:
    """With a layer norm, which the delegate does not take."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.Linear(16, 5),
    )
    return capture(net.eval(), (torch.zeros(1, 3, 16, 16),), name="net")


@pytest.fixture(scope="module")
def brought(at_work: tuple[Path, Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a kit of kernels, run as a process of its own."""
    kit = tmp_path_factory.mktemp("kernels") / "kit"
    runner = at_work[0] / "runner" / "bin"
    graph = network()
    sweeps = everything(graph, channel_groups(graph))
    target = replace(PHONE, reach=Reach(runner=str(runner)))
    make_kit(Wanted((), target, sweeps), kit)
    ran = run_kit(kit)
    assert ran.code == 0, ran.err
    return kit / "result.json"


@pytest.fixture(scope="module")
def table(brought: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "costs.sqlite"
    tabled = import_into_table(read_result(brought), path)
    assert tabled.conditions.device == "phone"
    assert tabled.samples >= 16 * tabled.kernels  # two processes of eight rounds each
    return path


def test_the_kits_times_are_all_that_a_plan_needs(table: Path) -> None:
    graph = network()
    groups = channel_groups(graph)
    cost = profile(graph, PHONE, groups, table=table)
    assert cost.taken.executed == 0  # nothing here was asked
    full = groups.full_widths()
    whole = cost.latency_ms(full)
    assert whole > 0
    assert any(kernel.op.startswith("aten") or "norm" in kernel.op for kernel in cost.kernels)
    found = plan(graph, groups, score(graph, groups, "l2"), cost=cost, budget=Budget(speedup=1.5))
    assert cost.latency_ms(found.widths()) <= whole / 1.5
    assert sum(found.widths().values()) < sum(full.values())


def test_what_the_kit_did_not_hold_is_not_made_up(table: Path, tmp_path: Path) -> None:
    other = network(width=40)
    with pytest.raises(MeasureError, match=r"no times of \d+ kernels .* kit --profile|--profile"):
        profile(other, PHONE, channel_groups(other), table=table)
    for target in (replace(PHONE, name="tablet"), replace(PHONE, threads=4)):
        with pytest.raises(MeasureError, match="has nothing of"):
            KnownRuns(CostTable(table), target)


def test_programs_are_not_measured_where_nothing_reaches(run_folder: Path) -> None:
    with pytest.raises(MeasureError, match=r"reached by kits only.*report RUN --import"):
        measure(run_folder / "model.pte", PHONE)


def changed(result: Path, folder: Path, trace: dict[str, Any] | None = None, **kit: Any) -> Result:
    """The result with its first trace or its kit's first program of kernels changed."""
    document = json.loads(result.read_text())
    document["kernels"][0] |= trace or {}
    document["kit"]["kernels"][0] |= kit
    path = folder / "changed.json"
    path.write_text(json.dumps(document))
    return read_result(path)


def test_traces_that_cannot_be_trusted_are_refused(brought: Path, tmp_path: Path) -> None:
    table = tmp_path / "costs.sqlite"
    first = json.loads(brought.read_text())["kit"]["kernels"][0]
    for result, says in (
        (changed(brought, tmp_path, {"program": "0" * 64}), "does not list"),
        (changed(brought, tmp_path, {"etdump": "!"}), "is damaged"),
        (changed(brought, tmp_path, {"etdump": packed(b"no dump at all")}), "is damaged|holds 0"),
        (changed(brought, tmp_path, keys=first["keys"][1:]), "is not the program"),
        (changed(brought, tmp_path, {"answer": {"machine": 1}}), "answer"),
    ):
        with pytest.raises(DataError, match=says):
            import_into_table(result, table)
    assert not table.exists()


def test_the_command_line(
    capfd: pytest.CaptureFixture[str], brought: Path, run_folder: Path, tmp_path: Path
) -> None:
    def edgeprune(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    table = tmp_path / "costs.sqlite"
    code, out, err = edgeprune("report", "--import", brought, "--as-table", "--table", table)
    assert (code, out) == (0, ""), err
    assert "kernels of phone" in err
    assert "1 set(s) of conditions" in edgeprune("table", "--table", table)[1]
    for words, says in (
        (("report",), "name the output directory"),
        (("report", run_folder, "--as-table"), "go with --import"),
        (("report", "--import", brought), "name the output directory"),
        (("report", run_folder, "--import", brought), "no report in"),
        (("kit", tmp_path / "k", "--input", "1x3x8x8"), "--input is the shape of --profile"),
        (("kit", tmp_path / "k"), "nothing to pack"),
        (("kit", tmp_path / "k", run_folder, "--target", "cortex-m55"), "no kit is made"),
    ):
        code, _, err = edgeprune(*words)
        assert (code, says in err) == (2, True), err
    code, out, err = edgeprune("kit", tmp_path / "board.zip", run_folder)
    assert code == 0, err
    assert f"a kit for {HOST.name} (linux)" in out
    assert "programs: baseline.pte, model.pte" in out
