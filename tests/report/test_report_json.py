"""`to_json`: the keys that are promised, and nothing that JSON cannot say."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.records import Metric, OnDevice, Report
from edgeprune.report import SCHEMA, to_json
from edgeprune.report.convert import _plain, device_json
from edgeprune.report.page import to_markdown
from edgeprune.report.schema import problems

DOCUMENT = Path(__file__).parents[2] / "docs" / "report-schema.md"
TOP = {"schema", "verdict", "reasons", "model", "target", "budget", "baseline", "final"}
TOP |= {"speedup", "speedup_interval", "parity", "stages", "rounds", "layers", "pinned"}
TOP |= {"conditions", "versions", "artifacts", "notes", "sparsity"}
SIDE = {"latency_ms", "size_bytes", "params", "macs", "peak_memory_bytes", "planned_bytes"}
SIDE |= {"metric", "conditions", "compressed_bytes", "zeros"}
LATENCY = {"median", "p10", "p90", "n", "interval", "processes", "clock", "estimated"}
LATENCY |= {"warnings", "samples"}


def test_has_every_promised_key(report: Report) -> None:
    data = to_json(report)
    assert set(data) == TOP
    assert data["schema"] == SCHEMA == "edgeprune-report/1"
    limits = {"latency_ms", "size_bytes", "speedup", "max_drop", "memory_bytes", "macs"}
    assert set(data["budget"]) == limits
    assert set(data["parity"]) == {"max_abs", "max_rel", "samples", "top1_agreement"}
    for side in (data["baseline"], data["final"]):
        assert set(side) == SIDE
        assert set(side["latency_ms"]) == LATENCY
    assert set(data["stages"][0]) == {"name", "seconds", "metric", "note"}
    assert set(data["layers"][0]) == {"name", "op", "before", "after", "before_us", "after_us"}
    assert set(data["pinned"][0]) == {"name", "size", "op", "reason", "source"}


def test_says_what_the_record_says(report: Report) -> None:
    data = to_json(report)
    assert data["final"]["latency_ms"]["median"] == 16.0
    assert data["final"]["latency_ms"]["n"] == 5
    assert data["final"]["metric"] == {"name": "accuracy", "value": 97.5, "higher_is_better": True}
    assert data["layers"][0]["before"] == [3, 64]
    assert data["conditions"]["threads"] == 1
    assert data["stages"][0]["metric"] is None


def test_is_valid_by_its_own_schema(report: Report, estimated: Report) -> None:
    assert problems(to_json(report)) == []
    assert problems(to_json(estimated)) == []


def test_survives_json(report: Report) -> None:
    data = to_json(report)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_samples_are_those_of_the_clock_that_was_judged_by(report: Report) -> None:
    latency = replace(report.final.latency, clock="cpu", cpu_ms=(1.0, 2.0, 3.0))
    data = to_json(replace(report, final=replace(report.final, latency=latency)))
    assert data["final"]["latency_ms"]["clock"] == "cpu"
    assert data["final"]["latency_ms"]["samples"] == [1.0, 2.0, 3.0]
    assert data["final"]["latency_ms"]["n"] == 3
    assert data["baseline"]["latency_ms"]["samples"][2] == 35.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_not_a_number_becomes_null(report: Report, bad: float) -> None:
    lost = replace(
        report,
        speedup=bad,
        speedup_interval=(bad, 2.0),
        final=replace(report.final, metric=Metric("accuracy", bad)),
        parity=replace(report.parity, max_rel=bad),
    )
    data = to_json(lost)
    assert data["speedup"] is None
    assert data["speedup_interval"] == [None, 2.0]
    assert data["final"]["metric"]["value"] is None
    assert data["parity"]["max_rel"] is None
    assert problems(data) == []


def test_numpy_scalars_become_python_numbers(report: Report) -> None:
    data = to_json(replace(report, final=replace(report.final, params=np.int64(7))))
    assert type(data["final"]["params"]) is int


def test_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match="cannot hold a complex"):
        _plain({"a": [1j]})


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_plain_is_always_json_and_changes_nothing_twice(value: Any) -> None:
    plain = _plain(value)
    json.dumps(plain, allow_nan=False)
    assert _plain(plain) == plain


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("verdict",), "maybe", "verdict: "),
        (("speedup",), "2.0", "speedup: "),
        (("baseline", "latency_ms", "median"), True, "baseline.latency_ms.median: "),
        (("layers", 0, "before"), [64], "layers.0.before: "),
        (("final", "params"), 1.5, "final.params: "),
        (("speedup",), math.inf, "speedup: "),
    ],
)
def test_problems_name_their_path(
    report: Report, path: tuple[Any, ...], value: Any, said: str
) -> None:
    data = to_json(report)
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert [problem[: len(said)] for problem in problems(data)] == [said]


def test_a_report_from_before_sparsity_is_still_read(report: Report) -> None:
    data = to_json(report)
    del data["sparsity"]
    for side in (data["baseline"], data["final"]):
        del side["compressed_bytes"], side["zeros"]
    assert problems(data) == []
    assert "compressed" in to_markdown(data)


def test_an_added_key_is_no_problem(report: Report) -> None:
    data = to_json(report)
    data["energy_mj"] = 3.5
    assert problems(data) == []


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_the_document_names_every_key_and_no_other(report: Report) -> None:
    measured = report.baseline.latency, report.final.latency
    elsewhere = OnDevice("phone", "Pixel 8", "Android 15", "adb", *measured, 2.0, (1.9, 2.1), None)
    data = to_json(report) | {"versions": {}, "artifacts": {}}  # their keys are names, not ours
    data["devices"] = [device_json(elsewhere)]
    text = DOCUMENT.read_text("utf-8")
    tabled = {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert tabled <= keys(data)
    assert keys(data) <= set(re.findall(r"`(\w+)`", text))
    assert f"`{SCHEMA}`" in text


def test_a_program_that_does_not_run_here_has_no_parity(report: Report) -> None:
    unrun = replace(report, parity=None)
    data = to_json(unrun)
    assert data["parity"] is None
    assert problems(data) == []
    assert "not run here" in to_markdown(data)
