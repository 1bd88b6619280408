"""Real programs in real worker processes; nothing here asserts how long anything takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import MeasureError
from edgeprune.measuring import Effort, compare, measure, speedup
from edgeprune.measuring.latency import samples_of
from edgeprune.records import Measurement, Target

LITTLE = Effort(processes=2, rounds=4, min_block_ms=0.5, timeout_s=120)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def measured(narrow, target: Target, told: list[tuple[str, int, int]]) -> Measurement:
    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        told.append((stage, done, total))

    return measure(narrow.artifact, target, LITTLE, progress)


def test_a_measurement_holds_every_sample(
    narrow, measured: Measurement, told: list[tuple[str, int, int]]
) -> None:
    assert measured.path == narrow.artifact.path
    assert measured.processes == 2
    assert len(measured.samples_ms) == len(measured.cpu_ms) == 8
    assert min(measured.samples_ms) > 0
    low, high = measured.interval_ms
    assert low <= measured.median_ms <= high
    assert measured.p10_ms <= measured.median_ms <= measured.p90_ms
    assert measured.median_ms == np.median(samples_of(measured))
    assert measured.peak_rss_bytes > narrow.artifact.size_bytes
    assert measured.conditions.threads == 1
    assert measured.conditions.backend == "xnnpack"
    assert not measured.estimated
    assert not any("copies them in" in warning for warning in measured.warnings)
    assert told[0] == ("measure", 0, 2)
    assert told[-1] == ("measure", 2, 2)


def test_sixteen_times_the_work_takes_longer(narrow, wide, target: Target) -> None:
    """36 times, in fact: 96² channel pairs against 16²; any sane ratio is above 1."""
    slow, fast = compare([wide.artifact.path, str(narrow.artifact.path)], target, LITTLE)
    ratio, (low, high) = speedup(slow, fast)
    assert low <= ratio <= high
    assert ratio > 1
    assert slow.clock == fast.clock
    assert slow.conditions == fast.conditions
    assert slow.peak_rss_bytes > 0
    assert fast.peak_rss_bytes > 0


def test_several_threads_have_no_cpu_time(narrow, target: Target) -> None:
    measured = measure(narrow.artifact, replace(target, threads=2), LITTLE)
    assert measured.cpu_ms == ()
    assert measured.clock == "wall"
    assert measured.conditions.threads == 2


def test_foreign_programs_run_and_their_copies_are_told(foreign: Path, target: Target) -> None:
    measured = measure(foreign, target, LITTLE)
    assert measured.median_ms > 0
    assert any("copies them in" in warning for warning in measured.warnings)


def test_a_ratio_of_different_sessions_is_refused(measured: Measurement) -> None:
    with pytest.raises(ValueError, match="one `compare`"):
        speedup(measured, replace(measured, processes=4))


def damaged(program: Path, path: Path, start: int, junk: bytes) -> Path:
    data = bytearray(program.read_bytes())
    data[start : start + len(junk)] = junk
    path.write_bytes(data)
    return path


def test_what_is_not_a_program(narrow, target: Target, tmp_path: Path) -> None:
    program = narrow.artifact.path
    text = tmp_path / "notes.pte"
    text.write_text("this is a text about ET12 programs")
    cases = {
        tmp_path / "missing.pte": "no such program",
        tmp_path: "cannot read|not an ExecuTorch",
        text: "not an ExecuTorch program",
        damaged(program, tmp_path / "new.pte", 4, b"ET99"): "ET99, newer than the ET12",
        damaged(program, tmp_path / "old.pte", 4, b"ET11"): "ET11, older than the ET12",
    }
    empty = tmp_path / "empty.pte"
    empty.touch()
    cases[empty] = "not an ExecuTorch program"
    for path, says in cases.items():
        with pytest.raises(MeasureError, match=says) as caught:
            measure(path, target, LITTLE)
        assert "\n" not in str(caught.value)


def test_damage_inside_is_found_by_the_runtime(narrow, target: Target, tmp_path: Path) -> None:
    program = narrow.artifact.path
    short = tmp_path / "short.pte"
    short.write_bytes(program.read_bytes()[:1500])
    garbled = damaged(program, tmp_path / "garbled.pte", 200, bytes(range(256)) * 4)
    for path in (short, garbled):
        with pytest.raises(MeasureError, match=path.name) as caught:
            measure(path, target, LITTLE)
        assert "\n" not in str(caught.value)


def test_unknown_runner_names_those_that_exist(narrow, target: Target) -> None:
    with pytest.raises(MeasureError, match=r"pigeon.*runners: adb, local"):
        measure(narrow.artifact, replace(target, runner="pigeon"), LITTLE)


def test_effort_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rounds"):
        Effort(rounds=0)
