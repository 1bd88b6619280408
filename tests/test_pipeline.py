"""fit from a model to a report, on real data, in full: also killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from residual_fits import residual_fit
from safetensors.torch import load_file

from edgeprune import capture, fit, load_target, measure
from edgeprune.data import DataRequest, load_data
from edgeprune.models import ModelRequest, load_model
from edgeprune.plans import Plan
from edgeprune.records import Budget, FitOptions, Recipe
from edgeprune.report import read_report
from edgeprune.shipping import read_manifest

NETWORK = """
import torch
from torch import nn

def make(num_classes=10):
    def block(a, b, stride):
        return nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    return nn.Sequential(
        block(1, 32, 1), block(32, 64, 2), block(64, 64, 1), block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, num_classes))
"""


def command(folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "edgeprune", "fit", "--model", f"{folder / 'net.py'}:make",
        "--data", "digits", "--input", "1x1x28x28", "--speedup", "1.5", "--epochs", "2",
        "--baseline-epochs", "2", "--bundle", "-o", str(folder / "run"), "--json",
        *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run that was killed during fine-tuning, and continued to its end."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "net.py").write_text(NETWORK)
    with subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "fine-tune" in line:
                break
        until = time.monotonic() + 60
        checkpoint = folder / "run" / ".fine-tune.checkpoint"
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    plan = (folder / "run" / "plan.json").read_bytes()
    assert not (folder / "run" / "report.json").exists()
    ended = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 3), ended.stderr
    assert (folder / "run" / "plan.json").read_bytes() == plan
    return folder / "run", json.loads(ended.stdout)


def test_the_report_has_everything(finished: tuple[Path, dict]) -> None:
    run, printed = finished
    report = read_report(run)
    assert report == printed
    assert report["verdict"] in ("met", "missed", "undecidable")
    assert report["final"]["params"] < report["baseline"]["params"]
    assert report["final"]["macs"] < report["baseline"]["macs"]
    assert report["final"]["size_bytes"] == (run / "model.pte").stat().st_size
    assert report["parity"]["max_rel"] < 1e-4
    assert report["speedup"] > 1
    names = [stage["name"] for stage in report["stages"]]
    assert names == [
        "train baseline", "check baseline", "lower baseline", "plan", "prune", "statistics",
        "reconstruct", "fine-tune",
        "lower", "measure", "check parity", "test",
    ]  # fmt: skip
    assert report["baseline"]["metric"]["value"] > 15
    assert any("continued" in note for note in report["notes"])
    for name in ("model.pt2", "weights.safetensors", "baseline.pte", "report.md", "report.html"):
        assert (run / name).stat().st_size > 0
    assert not list(run.glob(".*.checkpoint"))


def test_a_finished_run_is_told_again(finished: tuple[Path, dict]) -> None:
    run, printed = finished
    before = (run / "model.pte").stat().st_mtime_ns
    ended = subprocess.run(command(run.parent), capture_output=True, text=True, check=False)
    assert json.loads(ended.stdout) == printed
    assert (run / "model.pte").stat().st_mtime_ns == before


def test_another_budget_in_the_same_directory_is_refused(finished: tuple[Path, dict]) -> None:
    run, _ = finished
    words = [w if w != "1.5" else "1.7" for w in command(run.parent)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "differs in budget" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_was_written_belongs_together(finished: tuple[Path, dict]) -> None:
    run, report = finished
    program = torch.export.load(run / "model.pt2").module()
    weights = load_file(run / "weights.safetensors")
    state = program.state_dict()
    assert all(torch.equal(state[k], v) for k, v in weights.items() if k in state)
    plan = Plan.from_json((run / "plan.json").read_text())
    assert sum(plan.widths().values()) < sum(plan.sizes.values())
    widths = {layer["name"]: layer["after"] for layer in report["layers"]}
    assert widths["0.0"][1] == weights["0.0.weight"].shape[0]
    again = capture(torch.export.load(run / "model.pt2"), (torch.randn(1, 1, 28, 28),))
    assert len(list(again.module().parameters())) == len(list(program.parameters()))
    assert measure(run / "model.pte", load_target("host")).median_ms > 0


def test_programs_travel_with_what_they_take_and_give(finished: tuple[Path, dict]) -> None:
    run, _ = finished
    for name in ("baseline.pte", "model.pte"):
        manifest = read_manifest(run / name)
        assert manifest is not None
        (given,) = manifest.inputs
        assert (given.shape, given.layout) == ((1, 1, 28, 28), "NCHW")
        assert given.normalisation is not None
        assert len(given.normalisation.mean) == len(given.normalisation.std) == 1
        assert manifest.outputs[0].shape == (1, 10)
        assert manifest.labels == tuple("0123456789")
        assert manifest.bundle is not None
        assert manifest.bundle.checked
        assert (run / manifest.bundle.file).exists()


def test_a_budget_below_the_floor_is_known_before_training(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    words = [w if w != "1.5" else "500" for w in command(tmp_path, "--baseline-epochs", "0")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    error = ended.stderr.strip().splitlines()[-1]
    assert "cannot be met" in error
    assert "--budget-ms" in error
    assert "fine-tune" not in ended.stderr


def test_fit_without_data_prunes_and_measures(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    model = load_model(ModelRequest(f"{tmp_path / 'net.py'}:make", input_shape=(1, 1, 28, 28)))
    options = FitOptions(
        load_target("host"), Budget(size_bytes=300_000), tmp_path / "run", Recipe(epochs=0)
    )
    report = fit(model, None, options)
    assert report.verdict == "met"
    assert 0.9 * 300_000 < report.final.size_bytes <= 300_000
    assert report.final.metric is None
    assert any("no data" in note for note in report.notes)


def test_max_drop_makes_it_fail_honestly(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    data = load_data(DataRequest("digits", (1, 28, 28)))
    model = load_model(
        ModelRequest(f"{tmp_path / 'net.py'}:make", input_shape=(1, 1, 28, 28), classes=10)
    )
    options = FitOptions(
        load_target("host"),
        Budget(size_bytes=60_000, max_drop=0.5),
        tmp_path / "run",
        Recipe(epochs=0),
        baseline_epochs=3,
        statistics=False,  # a baseline of three epochs gains more by these than the cut loses
        reconstruction=False,
    )
    report = fit(model, data, options)
    assert report.verdict == "missed"
    assert any("fell by" in reason for reason in report.reasons)


@pytest.mark.parametrize("criterion", ["l2", "refit"])
def test_where_no_channel_may_go_blocks_do(tmp_path: Path, criterion: str) -> None:
    report = residual_fit(tmp_path, criterion=criterion, drop_blocks=True, floor=1.0)
    assert report.verdict == "met"
    plan = Plan.from_json((tmp_path / "run" / "plan.json").read_text())
    assert 1 <= len(plan.dropped) <= 3
    assert report.final.params == report.baseline.params - len(plan.dropped) * 4672
    assert not any("the full network already" in note for note in report.notes)
    assert report.parity is not None
    assert report.parity.max_rel < 1e-4
