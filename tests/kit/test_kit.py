"""Kits: what is in them, that they run as they are, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kits_at_work import HOST, QUICK, Ran, run_kit, unzip
from made_up_report import made_up_report

from edgeprune.errors import DataError, MeasureError, OutputError, TargetError
from edgeprune.kit import Wanted, make_kit, packing
from edgeprune.kit.packing import packed, unpacked
from edgeprune.kit.records import kit_of
from edgeprune.measuring import speedup
from edgeprune.measuring.bundle import digest_of
from edgeprune.measuring.results import read_result, write_result
from edgeprune.measuring.telling import Device, measured_there
from edgeprune.records import Reach
from edgeprune.targets import load_target


def test_a_zip_that_is_the_same_every_time(run_folder: Path, archive: Path) -> None:
    again = archive.with_name("again") / "board.zip"
    kit = make_kit(Wanted((run_folder,), HOST), again)
    assert again.read_bytes() == archive.read_bytes()
    assert [program.file for program in kit.programs] == [
        "programs/baseline.pte",
        "programs/model.pte",
    ]
    with zipfile.ZipFile(archive) as held:
        names = {name.removeprefix("board/") for name in held.namelist()}
        assert held.testzip() is None
        modes = {i.filename.removeprefix("board/"): i.external_attr >> 16 for i in held.infolist()}
    assert {"run.sh", "README.md", "kit.json", "inputs/x0.bin"} <= names
    assert {"programs/model.pte.json", "programs/model.bpte"} <= names
    assert {"runner/CMakeLists.txt", "runner/runner/main.cpp", "runner/bench.pyz"} <= names
    assert modes["run.sh"] & 0o111
    assert not modes["kit.json"] & 0o111


def test_it_runs_as_it_is_and_builds_its_runner(at_work: tuple[Path, Ran]) -> None:
    """From a zip to a result, with nothing but a compiler and the wheel."""
    kit, ran = at_work
    assert ran.code == 0, ran.err
    assert (kit / "runner" / "bin" / "edgeprune_runner").exists()
    result = read_result(kit / "result.json")
    assert result.runner == "edgeprune_runner"
    assert [p.name for p in result.programs] == ["baseline.pte", "model.pte"]
    assert result.programs[1].sha256 == digest_of(kit / "programs" / "model.pte")
    assert [len(p.programs) for p in result.processes] == [2, 2]
    assert [len(run.wall_ms) for run in result.processes[0].programs] == [3, 3]
    assert len(result.alone) == 2
    assert result.kit is not None
    held = kit_of(result.kit)
    assert held.target == "host"
    for outputs, program in zip(result.outputs, held.programs, strict=True):
        assert outputs.program == program.sha256
        (got,), (expected,) = outputs.outputs, program.expected
        y, wanted = (np.frombuffer(unpacked(text, "y"), np.float32) for text in (got, expected))
        assert y.shape == (4 * 5,)
        assert np.allclose(y, wanted, rtol=1e-5, atol=1e-6)


def test_python_where_nothing_can_be_built(run_folder: Path, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    make_kit(Wanted((run_folder / "model.pte",), HOST), kit)
    (kit / "runner" / "CMakeLists.txt").unlink()
    ran = run_kit(kit, "-n", "2", "-p", "1")
    assert ran.code == 0, ran.err
    assert ran.result["runner"] == "python"
    assert ran.result["outputs"] == []
    assert len(read_result(kit / "result.json").processes) == 1


def test_where_nothing_runs_it_says_what_to_install(archive: Path, tmp_path: Path) -> None:
    kit = unzip(archive, tmp_path)
    ran = run_kit(kit, python="/nonexistent/python")
    assert ran.code == 2
    assert "pip install executorch" in ran.err
    assert not ran.result


def test_wrong_options_are_refused(archive: Path, tmp_path: Path) -> None:
    kit = unzip(archive, tmp_path)
    for options, says in (
        (("-n", "many"), "not a whole number"),
        (("-c", "a,b"), "-c takes"),
        (("-C", "warm"), "-C takes"),
        (("-r", str(tmp_path)), "no edgeprune_runner that runs"),
        (("-x",), "head of this file"),
        (("extra.pte",), "no such program: extra.pte"),
    ):
        ran = run_kit(kit, *options)
        assert (ran.code, says in ran.err) == (2, True), ran.err


def test_a_folder_with_awkward_names_and_a_built_runner(
    run_folder: Path, at_work: tuple[Path, Ran], tmp_path: Path
) -> None:
    program = tmp_path / 'it\'s a "model".pte'
    program.write_bytes((run_folder / "model.pte").read_bytes())
    runner = at_work[0] / "runner" / "bin"
    target = replace(HOST, reach=Reach(runner=str(runner)))
    kit = tmp_path / "kit"
    make_kit(Wanted((program,), target), kit)
    assert (kit / "runner" / "bin" / "edgeprune_runner").stat().st_mode & 0o111
    ran = run_kit(kit, *QUICK)
    assert ran.code == 0, ran.err
    assert ran.result["programs"][0]["name"] == program.name
    assert "not known" in (kit / f"programs/{program.name}.json").read_text()


def test_scripts_pass_shellcheck(tmp_path: Path, archive: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    kit = unzip(archive, tmp_path)
    scripts = [str(path) for path in kit.rglob("*.sh")]
    assert len(scripts) == 2
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_kits_that_make_no_sense(run_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "notes.pte").write_text("this is no program at all")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    out = tmp_path / "kit.zip"
    model = run_folder / "model.pte"
    for error, says, wanted, place in (
        (OutputError, "nothing to pack", Wanted((), HOST), out),
        (OutputError, "no baseline.pte and no model.pte", Wanted((empty,), HOST), out),
        (OutputError, "model.pte comes twice", Wanted((run_folder, model), HOST), out),
        (MeasureError, "not an ExecuTorch program", Wanted((tmp_path / "notes.pte",), HOST), out),
        (OutputError, "is no kit", Wanted((model,), HOST), tmp_path / "full"),
        (OutputError, "is a file", Wanted((model,), HOST), tmp_path / "notes.pte"),
        (
            TargetError,
            "lowered for 'xnnpack'",
            Wanted((model,), replace(HOST, backend="vulkan")),
            out,
        ),
        (TargetError, "no kit is made", Wanted((model,), load_target("cortex-m55")), out),
    ):
        with pytest.raises(error, match=says):
            make_kit(wanted, place)
    assert not out.exists()


# --- results ---------------------------------------------------------------------------------


def result(**changed: object) -> dict[str, object]:
    runs = [{"wall_ms": [1.0, 2.0], "cpu_ms": [1.0, 2.0]}]
    return {
        "format": "edgeprune-bench/1",
        "runner": "edgeprune_runner",
        "device": "board",
        "threads": 1,
        "programs": [{"name": "model.pte", "sha256": "0" * 64}],
        "processes": [{"programs": runs}, {"programs": runs}],
        **changed,
    }


def test_a_result_needs_little(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result()))
    assert read_result(path).processes[0].programs[0].wall_ms == (1.0, 2.0)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (result(format="edgeprune-bench/9"), "format is 'edgeprune-bench/9'"),
        ([], "format is None"),
        (result(threads="one", processes=[{"programs": [{}]}]), r"threads: .*wall_ms: "),
        (result(processes=[]), "processes: none"),
        (result(processes=[{"programs": []}]), "holds 0 programs, not 1"),
        (result(processes=[{"programs": [{"wall_ms": [0.0]}]}]), "not above zero"),
        (
            result(processes=[{"programs": [{"wall_ms": [1.0, 1.0], "cpu_ms": [1.0]}]}]),
            "as many cpu_ms",
        ),
        (
            result(processes=[{"programs": [{"wall_ms": [1.0] * n}]} for n in (2, 3)]),
            "as many samples",
        ),
        (result(alone=[]) | {"alone": [{"programs": []}] * 2}, "one for each program"),
    ],
)
def test_what_is_wrong_with_a_result_is_said(document: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=says):
        read_result(path)


def test_a_result_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result())[:-40])
    with pytest.raises(DataError, match="cut short"):
        read_result(path)
    with pytest.raises(OutputError, match="cannot read"):
        read_result(tmp_path / "nothing.json")


def test_bytes_in_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    text = packed(bytes(1000))
    assert unpacked(text, "y") == bytes(1000)
    assert text == packed(bytes(1000))
    for damaged in ("?", text[:-8], packed(b"x")[4:]):
        with pytest.raises(DataError, match="y is damaged"):
            unpacked(damaged, "y")
    monkeypatch.setattr(packing, "_MOST_UNPACKED", 999)
    with pytest.raises(DataError, match="more than 999 bytes"):
        unpacked(text, "y")


def test_what_measure_writes_is_read_back(tmp_path: Path) -> None:
    """`edgeprune measure --result`: the same samples, processes and memory on the other side."""
    taken = []
    for name, ms in (("baseline.pte", 4.0), ("model.pte", 2.0)):
        one = made_up_report().final.latency
        samples = tuple(ms * factor for factor in (1.0, 1.1, 1.2, 1.3))
        taken.append(
            replace(
                one,
                path=Path(name),
                samples_ms=samples,
                cpu_ms=samples,
                processes=2,
                peak_rss_bytes=int(ms * 1000),
                warnings=("a loud fan",),
            )
        )
    path = tmp_path / "result.json"
    write_result(path, taken, ["0" * 64, "1" * 64])
    result = read_result(path)
    assert [p.sha256 for p in result.programs] == ["0" * 64, "1" * 64]
    before, after = measured_there(result, Device("board", "xnnpack", "fp32"))
    for told, own in ((before, taken[0]), (after, taken[1])):
        assert (told.samples_ms, told.cpu_ms) == (own.samples_ms, own.cpu_ms)
        assert (told.processes, told.peak_rss_bytes) == (2, own.peak_rss_bytes)
        assert replace(told.conditions, device="host") == own.conditions
        assert "a loud fan" in told.warnings
    assert speedup(before, after)[0] == 2
