"""From a kit's result to the run's report: what is folded in, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kits_at_work import Ran

from edgeprune.cli.summary import show_report
from edgeprune.errors import DataError
from edgeprune.importing import import_into_report, import_into_table
from edgeprune.kit.packing import packed
from edgeprune.measuring.results import read_result
from edgeprune.records import Budget, Report
from edgeprune.report import read_report, to_html, to_markdown, write_report


@pytest.fixture
def home(run_folder: Path, finished_report: Report, tmp_path: Path) -> Path:
    """The run's directory as `fit` leaves it: programs and report."""
    folder = tmp_path / "home"
    shutil.copytree(run_folder, folder)
    write_report(finished_report, folder)
    return folder


def changed(at_work: tuple[Path, Ran], folder: Path, **keys: Any) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps({**at_work[1].result, **keys}))
    return path


def test_a_devices_numbers_stand_in_the_report(
    at_work: tuple[Path, Ran], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit, ran = at_work
    assert ran.code == 0, ran.err
    found = import_into_report(read_result(kit / "result.json"), home)
    assert found.name == "host"
    assert found.baseline.path.name == "baseline.pte"
    assert found.speedup_interval[0] <= found.speedup <= found.speedup_interval[1]
    assert found.parity is not None
    assert found.parity.max_rel < 1e-5
    assert (found.parity.samples, found.parity.top1_agreement) == (4, 1.0)
    document = read_report(home)
    (device,) = document["devices"]
    runs = [p["programs"] for p in ran.result["processes"]]
    wall = [ms for process in runs for ms in process[1]["wall_ms"]]
    cpu = [ms for process in runs for ms in process[1]["cpu_ms"]]
    taken = device["final"]["latency_ms"]
    assert taken["samples"] == [round(x, 6) for x in (cpu if taken["clock"] == "cpu" else wall)]
    assert device["final"]["peak_memory_bytes"] == ran.result["alone"][1]["peak_rss_bytes"]
    assert device["conditions"]["cpu"] == ran.result["processes"][0]["machine"]["cpu"]
    # Everything else is as it was.
    assert {**document, "devices": None} == {**read_report(home), "devices": None}
    for page in ((home / "report.html").read_text(), (home / "report.md").read_text()):
        assert "On other devices" in page
        assert device["device"] in page
    capsys.readouterr()
    show_report(document, home, details=True)
    assert "budget there" in capsys.readouterr().out
    assert to_html(document) == (home / "report.html").read_text()
    assert to_markdown(document) == (home / "report.md").read_text()


def test_the_same_device_again_replaces_and_another_is_added(
    at_work: tuple[Path, Ran], home: Path, tmp_path: Path
) -> None:
    result = read_result(at_work[0] / "result.json")
    import_into_report(result, home)
    import_into_report(result, home)
    assert len(read_report(home)["devices"]) == 1
    other = read_result(changed(at_work, tmp_path, device="another board"))
    import_into_report(other, home)
    devices = read_report(home)["devices"]
    assert [d["device"] for d in devices] == [result.device, "another board"]


def test_the_budget_is_judged_there_too(
    at_work: tuple[Path, Ran], home: Path, finished_report: Report
) -> None:
    result = read_result(at_work[0] / "result.json")
    for budget, verdict in (
        (Budget(latency_ms=1000.0), "met"),
        (Budget(latency_ms=1e-6), "missed"),
        (Budget(macs=1), None),
    ):
        write_report(replace(finished_report, budget=budget), home)
        assert import_into_report(result, home).verdict == verdict
    assert "budget there" in (home / "report.md").read_text()


def test_results_of_other_programs_are_refused(
    at_work: tuple[Path, Ran], home: Path, tmp_path: Path
) -> None:
    result = read_result(at_work[0] / "result.json")
    before = (home / "report.json").read_bytes()
    (home / "model.pte").write_bytes((home / "baseline.pte").read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"other programs than those in .*model.pte there is"):
        import_into_report(result, home)
    assert (home / "report.json").read_bytes() == before


def test_what_a_phone_says_of_itself_is_passed_on(
    at_work: tuple[Path, Ran], home: Path, tmp_path: Path
) -> None:
    state = {"thermal_status": 2, "battery_percent": 9, "power_save": "1"}
    path = changed(at_work, tmp_path, before={"thermal_status": 0}, after=state)
    warnings = " ".join(import_into_report(read_result(path), home).final.warnings)
    for said in ("thermal status 2", "battery was at 9 %", "battery saver was on"):
        assert said in warnings


def test_damaged_outputs_are_refused(at_work: tuple[Path, Ran], home: Path, tmp_path: Path) -> None:
    outputs = at_work[1].result["outputs"]
    for text, says in (("!!", "damaged"), (packed(b"123"), "has 3 bytes")):
        broken = [{**one, "outputs": [text]} for one in outputs]
        path = changed(at_work, tmp_path, outputs=broken)
        with pytest.raises(DataError, match=says):
            import_into_report(read_result(path), home)


def test_a_kit_without_kernels_has_nothing_for_the_table(
    at_work: tuple[Path, Ran], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="kit --profile MODEL"):
        import_into_table(read_result(at_work[0] / "result.json"), tmp_path / "table.sqlite")
    assert not (tmp_path / "table.sqlite").exists()
