"""The commands on a small network, from a look at its channels to the report of a run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edgeprune.records import Conditions, Measurement

NET = """
import torch

def make(num_classes=10):
    print("a model that prints")
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, num_classes),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    (path / "net.py").write_text(NET)
    return path


@pytest.fixture
def model(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HOME", str(folder))  # a cost table of our own, shared by these tests only
    return ("--model", "net.py:make", "--input", "1x1x32x32")


def ended_well(ended, code=0):
    assert ended.code == code, ended.err
    return ended.out


def test_inspect_json(edgeprune, model):
    found = json.loads(ended_well(edgeprune("inspect", *model, "--json")))
    assert found["model"] == "make"
    assert found["input_shape"] == [1, 1, 32, 32]
    assert found["params"] == 160 + 4640 + 330
    assert [(group["size"], group["parts"]) for group in found["groups"]] == [(16, 1), (32, 1)]
    assert {"name": "0.weight", "dim": 0, "role": "out"} in found["groups"][0]["parameters"]
    assert [pin["size"] for pin in found["pinned"]] == [10]
    assert "kernels" not in found


def test_inspect_reads_well_in_80_columns(edgeprune, model):
    out = ended_well(edgeprune("inspect", *model))
    assert "48 channels can be pruned, in 2 groups; 10 are pinned" in out
    assert "reaches the model's output" in out
    assert "a model that prints" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_inspect_costs(edgeprune, model):
    found = json.loads(ended_well(edgeprune("inspect", *model, "--cost", "--json")))
    assert len(found["kernels"]) >= 3
    assert all(kernel["us"] >= 0 for kernel in found["kernels"])
    assert found["latency_ms"] > 0
    assert found["size_bytes"] > 4 * found["params"]


def test_a_uniform_plan(edgeprune, model, tmp_path):
    path = tmp_path / "plans" / "half.json"
    out = ended_well(edgeprune("plan", *model, "--keep", 0.5, "-o", path))
    assert "keeps 24 of 48 channels in 2 groups" in out
    kept = json.loads(path.read_text())["kept"]
    assert sorted(len(channels) for channels in kept.values()) == [8, 16]
    printed = ended_well(edgeprune("plan", *model, "--keep", 0.5, "-o", path, "--json"))
    assert json.loads(printed) == json.loads(path.read_text())


def test_a_plan_for_a_speedup(edgeprune, model, tmp_path):
    path = tmp_path / "plan.json"
    words = ("plan", *model, "--data", "digits", "--speedup", 2, "-o", path)
    assert "predicted: " in ended_well(edgeprune(*words))
    kept = json.loads(path.read_text())["kept"]
    assert sum(len(channels) for channels in kept.values()) < 48


def test_lower_and_measure(edgeprune, model, tmp_path):
    plan, whole, half = (tmp_path / name for name in ("plan.json", "whole.pte", "half.pte"))
    ended_well(edgeprune("plan", *model, "--keep", 0.5, "-o", plan))
    said = ended_well(edgeprune("lower", *model, "--bundle", "-o", whole))
    assert "whole.bpte: 4 cases of noise, checked here" in said
    assert json.loads((tmp_path / "whole.pte.json").read_text())["bundle"]["cases"] == 4
    artifact = json.loads(
        ended_well(edgeprune("lower", *model, "--plan", plan, "-o", half, "--json"))
    )
    assert artifact["path"] == str(half)
    assert artifact["size_bytes"] == half.stat().st_size < whole.stat().st_size

    found = json.loads(ended_well(edgeprune("measure", whole, half, "--json")))
    assert [Path(one["path"]).name for one in found["measurements"]] == ["whole.pte", "half.pte"]
    assert all(one["median_ms"] > 0 and one["samples_ms"] for one in found["measurements"])
    (speedup,) = found["speedups"]
    assert speedup["interval"][0] <= speedup["ratio"] <= speedup["interval"][1]


def test_int8_is_lowered_on_noise_with_a_note_or_on_data(edgeprune, model, tmp_path):
    words = ("lower", *model, "--set", "dtype=int8", "-o", tmp_path / "int8.pte")
    noisy = edgeprune(*words)
    assert noisy.code == 0, noisy.err
    assert "calibrated on noise" in noisy.err
    calibrated = edgeprune(*words, "--data", "digits", "--json")
    assert "noise" not in calibrated.err
    assert json.loads(ended_well(calibrated))["runs_here"] is True


def test_what_the_backend_needs_is_asked_before_the_model_is_loaded(edgeprune, tmp_path):
    ended = edgeprune("lower", "--model", "no.py:such", "--target", "android-qnn")
    assert ended.code == 2
    assert "QNN_SDK_ROOT" in ended.err


def test_the_table_of_measurements_fits_80_columns():
    from edgeprune.cli.measure import _table

    conditions = Conditions(
        "host", "a CPU", "executorch 1.5.1", "xnnpack", "fp32", 1, None, None, None, 0.1, ""
    )
    files = [Path("a-directory-with-a-long-name") / name for name in ("baseline.pte", "model.pte")]
    found = [
        Measurement(file, (1234.5,) * 60, (), 1234.5, 1200.0, 1250.0, (1230.0, 1240.0), rss, 3,
                    conditions)
        for file, rss in zip(files, (123_456_789, 0), strict=True)
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=80)
    console.print(_table(files, found, [(12.34, (12.11, 12.56))]))
    lines = console.file.getvalue().splitlines()
    (row,) = [line for line in lines if "model.pte" in line]
    assert "1234 ms" in row
    assert "12.34× (12.11–12.56)" in row
    assert "unknown" in row
    assert max(map(len, lines)) <= 80


def test_a_plan_of_another_network_is_refused(edgeprune, model, tmp_path):
    plan = tmp_path / "plan.json"
    ended_well(edgeprune("plan", *model, "--keep", 0.5, "-o", plan))
    text = plan.read_text()
    plan.write_text(text.replace(json.loads(text)["fingerprint"], "somebody else's"))
    ended = edgeprune("lower", *model, "--plan", plan, "-o", tmp_path / "model.pte")
    assert ended.code == 2
    assert "edgeprune: error: the plan was made for another graph" in ended.err


def test_fit_and_report(edgeprune, model, tmp_path):
    """Met or not depends on how quiet the machine is; everything else does not."""
    run = tmp_path / "run"
    words = ("fit", *model, "--data", "digits", "--speedup", 1.2, "--baseline-epochs", 1)
    ended = edgeprune(*words, "--epochs", 1, "-o", run, "--json")
    assert ended.code in (0, 3), ended.err
    document = json.loads(ended.out)
    assert (ended.code == 0) == (document["verdict"] == "met")
    assert document == json.loads((run / "report.json").read_text())
    assert (run / "model.pte").stat().st_size == document["final"]["size_bytes"]

    again = edgeprune(*words, "--epochs", 1, "-o", run)
    assert again.code == ended.code
    assert f"budget {document['verdict']}: speedup ≥ 1.2×" in again.out
    assert max(map(len, again.out.splitlines())) <= 80

    assert json.loads(ended_well(edgeprune("report", run, "--json"))) == document
    assert ended_well(edgeprune("report", run, "--html")).lower().startswith("<!doctype html>")
    assert ended_well(edgeprune("report", run, "--markdown")).startswith("# ")
    assert "Stages" in ended_well(edgeprune("report", run))


def test_fit_in_rounds_with_zeros(edgeprune, model, tmp_path):
    run = tmp_path / "run"
    words = ("fit", *model, "--data", "digits", "--budget-mb", 0.016, "--baseline-epochs", 0,
             "--epochs", 1, "--strategy", "iterative", "--rounds", 2, "--sparsity", 0.5,
             "--sparsity-scope", "global", "--criterion", "l1", "-o", run)  # fmt: skip
    out = ended_well(edgeprune(*words))
    assert ".pte size, compressed" in out
    assert "download smaller" in " ".join(out.split())
    assert max(map(len, (line for line in out.splitlines() if "note:" not in line))) <= 80
    report = json.loads((run / "report.json").read_text())
    assert report["sparsity"]["scope"] == "global"
    assert report["final"]["zeros"] == pytest.approx(0.5, abs=0.05)
    stages = [stage["name"] for stage in report["stages"]]
    assert [name for name in stages if name.endswith("1 of 2")] == [
        "plan 1 of 2", "cut 1 of 2", "reconstruct 1 of 2", "recover 1 of 2",
    ]  # fmt: skip
    assert json.loads((run / "plan.json").read_text())["sparsity"]["share"] == 0.5


def test_a_global_plan_with_zeros_is_lowered(edgeprune, model, tmp_path):
    plan, half = tmp_path / "plan.json", tmp_path / "half.pte"
    words = ("plan", *model, "--keep", 0.5, "--strategy", "global", "--criterion", "bn")
    ended = edgeprune(*words, "-o", plan)
    assert ended.code == 2
    assert "this network has none" in ended.err
    words = ("plan", *model, "--keep", 0.5, "--strategy", "global", "--criterion", "fpgm")
    words = (*words, "--sparsity-pattern", "2:4", "-o", plan)
    assert "keeps 24 of 48 channels in 2 groups" in ended_well(edgeprune(*words))
    made = json.loads(plan.read_text())
    assert (made["strategy"], made["criterion"]) == ("global", "fpgm")
    assert made["sparsity"] == {"pattern": "2:4", "share": None, "scope": "layer", "seed": 0}
    out = ended_well(edgeprune("lower", *model, "--plan", plan, "-o", half, "--json"))
    thin = json.loads(out)
    assert thin["compressed_bytes"] < 0.8 * thin["size_bytes"]
    ended = edgeprune("lower", *model, "--plan", plan, "--sparsity", 0.5, "-o", half)
    assert ended.code == 2
    assert "has zeros of its own (2:4)" in ended.err
    whole = ended_well(edgeprune("lower", *model, "--sparsity", 0.9, "-o", half))
    assert "compressed" in whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep", 0.5, "--strategy", "iterative"), "it belongs to `fit`"),
        (("--keep", 0.5, "--strategy", "globe"), "is not one of budget, global, local"),
        (("--keep", 0.5, "--strategy", "budget"), "needs a budget"),
        (("--keep", 0.5, "--sparsity", 2), "a share of 2 must lie between 0 and 1"),
        (("--keep", 0.5, "--sparsity-pattern", "l1"), "l1 needs a share"),
        (("--keep", 0.5, "--sparsity", 0.5, "--sparsity-pattern", "3:2"), "keeps everything"),
        (("--keep", 0.5, "--criterion", "fischer"), "did you mean fisher?"),
        (("--keep", 0.5, "--criterion", "auto"), "only fit does that"),
        (("--keep", 0.5, "--criterion", "activation"), "activation needs --data"),
    ],
)
def test_wishes_that_make_no_sense(edgeprune, model, words, said):
    ended = edgeprune("plan", *model, *words)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_report_that_is_not_there(edgeprune, tmp_path):
    ended = edgeprune("report", tmp_path)
    assert ended.code == 2
    assert "edgeprune: error: no report in" in ended.err


def test_targets(edgeprune, tmp_path):
    assert "host" in ended_well(edgeprune("targets"))
    listed = json.loads(ended_well(edgeprune("targets", "--json")))
    assert {"host", "linux-arm64", "ethos-u55-128"} <= {target["name"] for target in listed}
    path = tmp_path / "board.toml"
    path.write_text('extends = "host"\nthreads = 2\n')
    assert "threads       2" in ended_well(edgeprune("targets", "check", path))
    assert json.loads(ended_well(edgeprune("targets", "check", path, "--json")))["threads"] == 2
    path.write_text("thread = 2\n")
    ended = edgeprune("targets", "check", path)
    assert ended.code == 2
    assert "thread: unknown key (did you mean 'threads'?)" in ended.err


def test_doctor(edgeprune):
    health = json.loads(ended_well(edgeprune("doctor", "--json")))
    assert health["fit_for_work"] is True
    assert {package["name"] for package in health["packages"]} >= {"torch", "executorch"}
    assert health["problems"] == []


def test_a_sweep_is_a_table_a_file_and_a_picture(edgeprune, model, tmp_path):
    path, picture = tmp_path / "front.json", tmp_path / "front.svg"
    words = ("plan", *model, "--sweep", "1.3,1.6,1000", "-o", path, "--plot", picture)
    out = ended_well(edgeprune(*words))
    assert "1.3×" in out
    assert "out of reach" in out
    points = json.loads(path.read_text())["points"]
    assert [point["speedup"] for point in points] == [1.3, 1.6, 1000]
    assert points[0]["importance"] >= points[1]["importance"]
    assert points[0]["gap"] == 0
    assert set(points[0]["widths"]) == {"0", "2"}
    assert points[2]["plan"] is None
    drawing = picture.read_text()
    assert drawing.startswith("<svg")
    assert drawing.count("<circle") == 2
    printed = json.loads(ended_well(edgeprune(*words, "--json")))
    assert printed["points"][0]["widths"] == points[0]["widths"]


def test_a_plan_edited_by_hand_is_checked(edgeprune, model, tmp_path):
    path = tmp_path / "plan.json"
    ended_well(edgeprune("plan", *model, "--keep", 0.5, "-o", path))
    data = json.loads(path.read_text())
    data["kept"]["0"] = [0, 1, 2]
    path.write_text(json.dumps(data))
    out = ended_well(edgeprune("plan", *model, "--check", path))
    assert "fits make" in out
    assert "predicted: " in out
    found = json.loads(ended_well(edgeprune("plan", *model, "--check", path, "--json")))
    assert 0 < found["importance"] < 1
    assert found["within"]
    ended = edgeprune("plan", *model, "--check", path, "--budget-mb", 0.000001)
    assert ended.code == 3
    assert "more than the budget" in ended.out
    data["kept"]["0"] = [0, 0, 99]
    data["kept"]["1"] = [0]
    path.write_text(json.dumps(data))
    ended = edgeprune("plan", *model, "--check", path)
    assert ended.code == 2
    assert "2 problem(s)" in ended.err


def test_a_recipe_holds_any_option_and_the_command_line_wins(edgeprune, model, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'model = "net.py:make"\ninput = "1x1x32x32"\nbudget_mmacs = 2.5\nfloor = 0.2\n'
        f'out = "{tmp_path / "made.json"}"\n[min-width]\n"0" = 9\n[multiple]\n"*" = 3\n'
    )
    ended_well(edgeprune("plan", "--recipe", recipe))
    kept = json.loads((tmp_path / "made.json").read_text())["kept"]
    assert len(kept["0"]) >= 9
    assert all(len(channels) % 3 == 0 or len(channels) in (16, 32) for channels in kept.values())
    small = ended_well(edgeprune("plan", "--recipe", recipe, "--budget-mmacs", 2.1, "--json"))
    fewer = json.loads(small)["kept"]
    assert sum(map(len, fewer.values())) < sum(map(len, kept.values()))


def test_groups_that_must_stay_do(edgeprune, model, tmp_path):
    words = ("plan", *model, "--budget-mmacs", 2.5, "-o", tmp_path / "plan.json", "--json")
    loose = json.loads(ended_well(edgeprune(*words)))["kept"]
    full = {"0": 16, "2": 32}
    (cut, *_) = [name for name, channels in loose.items() if len(channels) < full[name]]
    kept = json.loads(ended_well(edgeprune(*words, "--keep", f"{cut}*")))["kept"]
    assert len(kept[cut]) == full[cut]
    ended = edgeprune(*words, "--keep", "layer9.*")
    assert ended.code == 2
    assert "no group or block has such a name" in ended.err
