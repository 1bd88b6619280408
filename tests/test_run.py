"""A run's directory: finished stages are read back, other runs are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeprune.errors import OutputError
from edgeprune.output import write_whole
from edgeprune.records import Metric, Round
from edgeprune.run import Run

REQUEST = {"model": "net", "seed": 0, "budget": {"speedup": 2.0}}


def test_a_stage_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> Metric:
        calls.append(1)
        return Metric("top1", 91.5)

    first = Run.open(tmp_path, REQUEST, force=False).stage("check", Metric, compute)
    second = Run.open(tmp_path, REQUEST, force=False)
    assert second.finished("check")
    assert second.stage("check", Metric, compute) == first == Metric("top1", 91.5)
    assert len(calls) == 1


def test_records_in_tuples_come_back_as_they_were(tmp_path: Path) -> None:
    rounds = (Round(1.0, 0.9, 0.95, 1000, "met"), Round(None, None, None, 5, "undecidable"))
    Run.open(tmp_path, REQUEST, force=False).stage("plan", tuple[Round, ...], lambda: rounds)
    again = Run.open(tmp_path, REQUEST, force=False)
    assert again.stage("plan", tuple[Round, ...], tuple) == rounds


def test_a_stage_that_fails_is_not_kept(tmp_path: Path) -> None:
    run = Run.open(tmp_path, REQUEST, force=False)
    with pytest.raises(ZeroDivisionError):
        run.stage("check", Metric, lambda: Metric("x", 1 / 0))
    assert not Run.open(tmp_path, REQUEST, force=False).finished("check")


def test_another_request_is_refused_and_named(tmp_path: Path) -> None:
    Run.open(tmp_path, REQUEST, force=False).stage("s", Metric, lambda: Metric("m", 1.0))
    with pytest.raises(OutputError, match=r"differs in budget, seed.*--force"):
        Run.open(tmp_path, {**REQUEST, "seed": 1, "budget": {}}, force=False)
    assert Run.open(tmp_path, {**REQUEST, "seed": 1}, force=True).stages == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "edgeprune-run/1"}'])
def test_a_damaged_file_says_how_to_mend_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError, match=r"damaged.*--force"):
        Run.open(tmp_path, REQUEST, force=False)


def test_a_result_of_another_version_is_found_out_again(tmp_path: Path) -> None:
    Run.open(tmp_path, REQUEST, force=False).stage("check", Metric, lambda: Metric("m", 1.0))
    file = tmp_path / "run.json"
    data = json.loads(file.read_text())
    data["stages"]["check"]["found"] = {"other": True}
    file.write_text(json.dumps(data))
    run = Run.open(tmp_path, REQUEST, force=False)
    assert run.stage("check", Metric, lambda: Metric("m", 2.0)).value == 2.0


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
