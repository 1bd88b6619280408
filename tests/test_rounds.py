"""fit in several rounds, with zeros on top: stages, resumption, one plan, an honest report."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeprune import capture, fit, load_target, prune
from edgeprune.data import DataRequest, load_data
from edgeprune.models import LoadedModel
from edgeprune.plans import Plan
from edgeprune.records import Budget, FitOptions, Recipe, Report, Sparsity
from edgeprune.report import read_report

BUDGET = 30_000
pytestmark = pytest.mark.slow


def model() -> LoadedModel:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    )
    return LoadedModel(net, (1, 1, 8, 8), "small", has_weights=True)


def run(folder: Path) -> Report:
    options = FitOptions(
        load_target("host"),
        Budget(size_bytes=BUDGET),
        folder,
        Recipe(epochs=2, lr=0.05),
        criterion="fisher",
        sparsity=Sparsity("magnitude", 0.5, "layer"),
        rounds=3,
    )
    return fit(model(), load_data(DataRequest("digits", (1, 8, 8))), options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("rounds") / "run"
    return folder, run(folder)


def test_every_round_is_in_the_report(finished: tuple[Path, Report]) -> None:
    _, report = finished
    names = [stage.name for stage in report.stages]
    assert names == [
        "check baseline", "lower baseline", "schedule",
        "plan 1 of 3", "cut 1 of 3", "statistics 1 of 3", "reconstruct 1 of 3", "recover 1 of 3",
        "plan 2 of 3", "cut 2 of 3", "statistics 2 of 3", "reconstruct 2 of 3", "recover 2 of 3",
        "plan", "prune", "statistics", "reconstruct", "zeros", "fine-tune", "lower",
        "measure",
        "check parity", "test",
    ]  # fmt: skip
    told = {stage.name: stage for stage in report.stages}
    for name in ("cut 1 of 3", "recover 1 of 3", "cut 2 of 3", "recover 2 of 3"):
        assert told[name].metric is not None
    left = [int(told[f"plan {i} of 3"].note.split()[0]) for i in (1, 2)]
    assert 80 > left[0] > left[1]


def test_it_ends_within_the_budget_with_one_plan(finished: tuple[Path, Report]) -> None:
    folder, report = finished
    assert report.verdict == "met"
    assert 0.9 * BUDGET < report.final.size_bytes <= BUDGET
    plan = Plan.from_json((folder / "plan.json").read_text())
    assert plan.strategy == "iterative, 3 rounds by budget"
    assert plan.sparsity == Sparsity("magnitude", 0.5, "layer")
    whole = capture(model().module, (torch.zeros(1, 1, 8, 8),), name="small")
    shapes = {k: tuple(v.shape) for k, v in prune(whole, plan).program.state_dict().items()}
    weights = load_file(folder / "weights.safetensors")
    assert shapes == {k: tuple(v.shape) for k, v in weights.items()}
    earlier = [json.loads((folder / "run.json").read_text())["stages"][f"plan {i} of 3"]["found"]
               for i in (1, 2)]  # fmt: skip
    one, two = (Plan.from_json(text) for text in earlier)
    for name, kept in plan.kept.items():
        assert set(kept) <= set(two.kept[name]) <= set(one.kept[name])


def test_zeros_are_reported_for_what_they_are(finished: tuple[Path, Report]) -> None:
    folder, report = finished
    weights = load_file(folder / "weights.safetensors")
    for name in ("0.weight", "3.weight", "7.weight"):
        share = float((weights[name] == 0).double().mean())
        assert share == pytest.approx(0.5, abs=0.5 / weights[name].numel())
    zeros = sum(int((weights[n] == 0).sum()) for n in weights if "running" not in n)
    assert report.final.zeros == pytest.approx(zeros / report.final.params, abs=2e-3)
    assert report.baseline.zeros is not None
    assert report.baseline.zeros < 0.01
    for side, name in ((report.baseline, "baseline.pte"), (report.final, "model.pte")):
        data = (folder / name).read_bytes()
        assert side.size_bytes == len(data)
        assert side.compressed_bytes == pytest.approx(len(zlib.compress(data, 9)), abs=64)
    assert report.final.compressed_bytes is not None
    assert report.final.compressed_bytes < 0.75 * report.final.size_bytes
    (note,) = [note for note in report.notes if "zero" in note]
    assert "download smaller" in note
    assert "kernels" in note
    data = read_report(folder)
    assert data["sparsity"] == {"pattern": "magnitude", "share": 0.5, "scope": "layer", "seed": 0}
    text = (folder / "report.md").read_text()
    assert ".pte size, compressed" in text
    assert "zeros among them" in text


def test_a_run_goes_on_after_a_round(finished: tuple[Path, Report]) -> None:
    """As if it had been killed in its second round: the first is read back, all ends the same."""
    folder, report = finished
    state = json.loads((folder / "run.json").read_text())
    names = list(state["stages"])
    kept = {name: state["stages"][name] for name in names[: names.index("cut 2 of 3")]}
    weights = load_file(folder / "weights.safetensors")
    (folder / "run.json").write_text(json.dumps({**state, "stages": kept}))
    for name in ("weights-2.safetensors", "weights.safetensors", "model.pte", "plan.json"):
        (folder / name).unlink()
    again = run(folder)
    assert [s.name for s in again.stages] == [s.name for s in report.stages]
    first, second = ({s.name: s for s in one.stages}["recover 1 of 3"] for one in (report, again))
    assert first == second, "not done again"
    after = load_file(folder / "weights.safetensors")
    if after.keys() == weights.keys() and all(after[k].shape == weights[k].shape for k in after):
        assert all(torch.equal(after[k], weights[k]) for k in after)
    assert again.final.size_bytes <= BUDGET
