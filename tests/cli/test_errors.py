"""Every way of failing ends as documented: one clear line on stderr, nothing on stdout."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile

import pytest

from edgeprune.cli import app
from edgeprune.errors import BudgetError, EdgepruneError, ModelError

FIT = ("fit", "--model", "torchvision:resnet18")


def one_error_line(ended, code=2):
    """The error's text, after checking that it is all that was said."""
    assert ended.code == code
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("edgeprune: error: ")
    return lines[0].removeprefix("edgeprune: error: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fti",), "'fti'"),
        (("fit", "--speedup", 2), "--model"),
        ((*FIT, "--sped", 2), "--sped"),
        ((*FIT, "--speedup", "fast"), "--speedup"),
        ((*FIT, "--speedup", 2, "--threads", 0), "--threads"),
        (("measure", "nowhere.pte"), "nowhere.pte"),
        (("report",), "DIR"),
    ],
)
def test_a_wrong_command_line_is_one_line(edgeprune, words, said):
    text = one_error_line(edgeprune(*words))
    assert said in text
    assert "--help" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no budget: give --speedup, --budget-ms or --budget-mb"),
        (("--max-drop", 1, "--data", "digits"), "no budget"),
        (("--budget-ms", -3), "--budget-ms -3"),
        (("--speedup", 1), "--speedup 1 must be a number above 1"),
        (("--speedup", "nan"), "--speedup nan"),
        (("--speedup", "inf"), "--speedup inf"),
        (("--speedup", 2, "--max-drop", -1, "--data", "digits"), "--max-drop -1"),
        (("--speedup", 2, "--max-drop", 1), "--max-drop needs --data"),
        (("--speedup", 2, "--epochs", 3), "--epochs 3 needs --data"),
        (("--speedup", 2, "--lr", 0), "lr is 0"),
        (("--speedup", 2, "--temperature", 0), "temperature is 0.0: above 0"),
        (("--speedup", 2, "--label-smoothing", 2, "--ema", 1), "smoothing is 2.0"),
    ],
)
def test_a_budget_that_makes_no_sense(edgeprune, tmp_path, options, said):
    out = tmp_path / "run"
    assert said in one_error_line(edgeprune(*FIT, *options, "-o", out))
    assert not out.exists()


@pytest.mark.parametrize("option", ["--budget-ms", "--budget-mb"])
def test_a_budget_of_zero_is_out_of_reach(edgeprune, tmp_path, option):
    out = tmp_path / "run"
    ended = edgeprune(*FIT, option, 0, "-o", out)
    assert ended.code == 3
    assert f"{option} 0 cannot be met" in ended.err
    assert not out.exists()


def test_all_wrong_budgets_are_told_at_once(edgeprune):
    text = one_error_line(edgeprune(*FIT, "--budget-ms", -2, "--speedup", 0.5, "--budget-mb", -1))
    assert all(option in text for option in ("--budget-ms", "--speedup", "--budget-mb"))


def test_wrong_budgets_are_told_before_torch_is_imported():
    program = (
        "import sys; from edgeprune.cli import main; code = main(sys.argv[1:])\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *FIT, "--budget-ms", "-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "--budget-ms -1" in ended.stderr


def test_an_unwritable_output_is_said_before_any_work(edgeprune, tmp_path):
    (tmp_path / "file").touch()
    text = one_error_line(edgeprune(*FIT, "--speedup", 2, "-o", tmp_path / "file" / "run"))
    assert "cannot write" in text


def test_a_directory_that_is_not_ours_is_left_alone(edgeprune, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    text = one_error_line(edgeprune(*FIT, "--speedup", 2, "-o", tmp_path))
    assert "--force" in text
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("command", ["inspect --cost", "lower", "plan --speedup 2"])
def test_an_unknown_target_is_said_before_any_work(edgeprune, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*command.split(), "--model", "torchvision:resnet18", "--target", "hots"]
    assert "did you mean 'host'" in one_error_line(edgeprune(*words))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no budget"),
        (("--keep", 0), "--keep 0"),
        (("--keep", 1.5), "--keep 1.5"),
        (("--keep", 0.5, "--speedup", 2), "exclude one another"),
    ],
)
def test_a_plan_needs_one_aim(edgeprune, options, said):
    assert said in one_error_line(edgeprune("plan", "--model", "torchvision:resnet18", *options))


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ("tailor", "did you mean taylor"),
        ("taylor", "needs --data"),
        ("auto", "needs --data"),
    ],
)
def test_a_wrong_criterion_is_said_before_any_training(edgeprune, tmp_path, criterion, said):
    words = (*FIT, "--speedup", 2, "--criterion", criterion, "-o", tmp_path / "run")
    assert said in one_error_line(edgeprune(*words))


@pytest.mark.parametrize(
    ("error", "code"),
    [(ModelError("no such model"), 2), (BudgetError("too small"), 3), (EdgepruneError("x"), 2)],
)
def test_our_errors_end_with_their_code(edgeprune, monkeypatch, error, code):
    assert one_error_line(_fail_with(edgeprune, monkeypatch, error), code) == str(error)


def test_ctrl_c_ends_with_130_and_says_that_fit_continues(edgeprune, monkeypatch):
    ended = _fail_with(edgeprune, monkeypatch, KeyboardInterrupt())
    assert ended.code == 130
    assert "continues" in ended.err
    assert "Traceback" not in ended.err


def test_a_bug_shows_its_traceback_and_ends_with_1(edgeprune, monkeypatch):
    ended = _fail_with(edgeprune, monkeypatch, ZeroDivisionError("ours"))
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "ZeroDivisionError: ours" in ended.err
    assert ended.out == ""


def test_no_room_for_temporary_files_is_no_bug(edgeprune, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = one_error_line(_fail_with(edgeprune, monkeypatch, full))
    assert "No space left on device" in said
    assert f"TMPDIR (now {tempfile.gettempdir()})" in said


def _fail_with(edgeprune, monkeypatch, error):
    """Run `fit` with a first step that raises `error`."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["edgeprune.cli.fit"], "budget_from", fail)
    return edgeprune(*FIT, "--speedup", 2)


def test_a_reader_that_leaves_is_no_error():
    """`edgeprune ... | head -1`: no traceback, the shell's own code for a broken pipe."""
    program = (
        "import os, sys; from edgeprune.cli import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.exit(main(['targets']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == app.BROKEN_PIPE
    assert ended.stderr == ""


def test_every_problem_of_a_recipe_is_told_at_once(edgeprune, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'model = "torchvision:resnet18"\nspeedup = "2"\nepoch = 3\ndrop-blocks = 1\n'
        "lr = true\nkeep = [1, [2]]\n[seed]\na = 1\n"
    )
    text = one_error_line(edgeprune("fit", "--recipe", recipe))
    assert "6 problem(s)" in text
    for said in (
        "speedup: must be a number, not '2'",
        "epoch: no such option; did you mean epochs",
        "drop-blocks: must be true or false",
        "lr: must not be true or false",
        "keep: must be a list of words or numbers, or a table",
        "seed: takes one value",
    ):
        assert said in text
    recipe.write_text("speedup = ")
    assert "is not TOML" in one_error_line(edgeprune("fit", "--recipe", recipe))
    assert "No such file" in one_error_line(edgeprune("fit", "--recipe", tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-width", "a=b"), "--min-width a=b: 'b' is no number"),
        (("--multiple", "0"), "--multiple *=0 must be a whole number"),
        (("--max-cut", "1.5"), "--max-cut *=1.5 must be a share"),
        (("--floor", "2"), "--floor 2 must be a share"),
        (("--sweep", "2,x"), "--sweep 'x' must be a number"),
        (("--plot", "front.svg"), "give --sweep"),
        (("--importance", "2"), "--importance 2 must be"),
    ],
)
def test_demands_that_make_no_sense_are_said(edgeprune, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("plan", "--model", "torchvision:resnet18", "--speedup", 2, *options)
    assert said in one_error_line(edgeprune(*words))
