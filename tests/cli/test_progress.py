"""Progress: lines where nobody watches, bars where somebody does."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress as Bars

from edgeprune.cli import progress as module
from edgeprune.cli.progress import PlainLines, StageBars, progress


def test_without_a_terminal_progress_is_plain_lines(capsys):
    with progress() as report:
        assert isinstance(report, PlainLines)
        report("train", 0, 10)
        report("train", 10, 10, "loss 0.1")
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first == "edgeprune: train: 0/10"
    assert last.startswith("edgeprune: train: 10/10, done in ")
    assert last.endswith("loss 0.1")


def test_many_reports_make_few_lines(capsys):
    report = PlainLines()
    for step in range(1001):
        report("train", step, 1000)
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 4


def test_lines_between_say_how_long_it_will_take(capsys, monkeypatch):
    now = iter([100.0, 110.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    report = PlainLines()
    report("train", 0, 4)
    report("train", 1, 4)
    assert capsys.readouterr().err.splitlines()[1] == "edgeprune: train: 1/4, 30 s left"


def test_each_stage_has_a_bar_of_its_own():
    bars = Bars(console=Console(file=io.StringIO(), force_terminal=True))
    report = StageBars(bars)
    report("train", 1, 4)
    report("train", 2, 4)
    report("export", 0, 0, "nobody knows how long")
    report("lower", 0, 1)
    assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
        ("train", 2, 4),
        ("export", 1, 1),
        ("lower", 0, 1),
    ]


def test_a_stage_that_begins_again_is_timed_again(capsys, monkeypatch):
    now = iter([100.0, 110.0, 120.0, 121.0, 122.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    report = PlainLines()
    report("measure", 0, 4)
    report("measure", 4, 4)
    report("measure", 4, 4)
    report("measure", 0, 2)
    report("measure", 2, 2)
    lines = [line.removeprefix("edgeprune: ") for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "measure: 0/4",
        "measure: 4/4, done in 10 s",
        "measure: 0/2",
        "measure: 2/2, done in 1.0 s",
    ]
    bars = Bars(console=Console(file=io.StringIO(), force_terminal=True))
    again = StageBars(bars)
    for done, total in ((0, 4), (4, 4), (4, 4), (0, 2), (2, 2)):
        again("measure", done, total)
    assert [(task.completed, task.total) for task in bars.tasks] == [(4, 4), (2, 2)]
