"""The Android app and the iOS package: that they write what is read here, as far as can be run."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import plistlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from edgeprune.kit import Wanted, make_kit
from edgeprune.measuring import results
from edgeprune.measuring.results import read_result
from edgeprune.measuring.telling import Device, measured_there
from edgeprune.targets import load_target, shipped_directory

ANDROID = shipped_directory() / "android" / "app"
IOS = shipped_directory() / "ios"
STAND_INS = Path(__file__).parents[1] / "apps"
KOTLIN = ANDROID / "src" / "main" / "kotlin" / "dev" / "edgeprune" / "bench" / "Result.kt"
SWIFT = IOS / "Sources" / "EdgepruneBench" / "Result.swift"

# What phones say of themselves: `telling` reads the first three, the others are for people.
CIRCUMSTANCES = {"thermal_status", "battery_percent", "power_save", "charging", "screen"}


def read_here() -> set[str]:
    """Every name that the importer reads, at any depth."""
    records = [getattr(results, name) for name in dir(results)]
    found = set(CIRCUMSTANCES)
    for record in records:
        if dataclasses.is_dataclass(record) and record.__module__ == results.__name__:
            found |= {field.name for field in dataclasses.fields(record)}
    return found


def needed(record: type) -> set[str]:
    """The names without which a record is refused."""
    missing = dataclasses.MISSING
    return {
        field.name
        for field in dataclasses.fields(record)
        if field.default is missing and field.default_factory is missing
    }


def test_the_names_that_kotlin_writes_are_those_read_here() -> None:
    written = set(re.findall(r'"(\w+)" to\b', KOTLIN.read_text()))
    assert written - read_here() <= {"runner"}
    for record in (results.Result, results.Process, results.ProgramRun, results.Named):
        assert needed(record) <= written
    assert results.FORMAT in KOTLIN.read_text()


def test_the_names_that_swift_writes_are_those_read_here() -> None:
    text = SWIFT.read_text()
    written = set(re.findall(r"public let (\w+)[:=\s]", text))
    assert written - read_here() <= {"runner"}
    script = (IOS / "bench_ios.sh").read_text()  # which adds what only it knows
    written |= set(re.findall(r'"(\w+)": ', script))
    for record in (results.Result, results.Process, results.ProgramRun, results.Named):
        assert needed(record) <= written
    assert results.FORMAT in text


def test_the_shell_scripts_write_the_names_read_here() -> None:
    for path in (
        shipped_directory() / "linux" / "bench_linux.sh",
        shipped_directory() / "android" / "bench_android.sh",
    ):
        written = set(re.findall(r'"(\w+)": ', path.read_text()))
        assert written - read_here() <= {"battery_tenths_c"}
        assert needed(results.Result) | needed(results.Outputs) | needed(results.Traced) <= written


def test_the_xcode_project_holds_together() -> None:
    """A property list in which every reference is there, and names what the package names."""
    with (IOS / "Host" / "Host.xcodeproj" / "project.pbxproj").open("rb") as file:
        project = plistlib.load(file)
    objects: dict[str, Any] = project["objects"]
    assert project["rootObject"] in objects

    def words(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {word for item in value.values() for word in words(item)}
        if isinstance(value, list):
            return {word for item in value for word in words(item)}
        return {str(value)}

    mentioned = {
        word for word in words(list(objects.values())) if re.fullmatch("[0-9A-F]{24}", word)
    }
    assert mentioned <= set(objects)
    assert set(objects) - mentioned <= {project["rootObject"]}
    package = (IOS / "Package.swift").read_text()
    (remote,) = (o for o in objects.values() if o["isa"] == "XCRemoteSwiftPackageReference")
    assert remote["requirement"]["branch"] in package
    products = {
        o["productName"] for o in objects.values() if o["isa"].endswith("ProductDependency")
    }
    assert all(f'"{name}"' in package for name in products)
    for group in (o for o in objects.values() if o["isa"].endswith("SynchronizedRootGroup")):
        assert (IOS / "Host" / group["path"]).is_dir()
    scheme = IOS / "Host" / "Host.xcodeproj" / "xcshareddata" / "xcschemes" / "HostTests.xcscheme"
    (reference,) = ElementTree.parse(scheme).iter("BuildableReference")
    assert objects[reference.attrib["BlueprintIdentifier"]]["name"] == "HostTests"


def test_the_android_manifest_and_its_settings() -> None:
    ElementTree.parse(ANDROID / "src" / "main" / "AndroidManifest.xml")
    version = re.search(r"^executorch=(.+)$", (ANDROID / "gradle.properties").read_text(), re.M)
    assert version is not None
    swift = re.search(r"swiftpm-([\d.]+)", (IOS / "Package.swift").read_text())
    assert swift is not None
    assert version[1] == swift[1]


# --- the scripts, end to end against stand-ins -----------------------------------------------

XCODEBUILD = """#!/bin/sh
[ "$TEST_RUNNER_EXECUTORCH" = 1.5.1 ] || exit 3
echo "$@" >>"{folder}/arguments"
echo "Test Case '-[ProgramBenchmarkTests testTimePrograms]' started."
echo "EDGEPRUNE-PROCESS {process}"
echo "EDGEPRUNE-HEAD {head}"
echo "** TEST SUCCEEDED **"
"""


def packed(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.fixture
def ios_kit(run_folder: Path, tmp_path: Path) -> Path:
    kit = tmp_path / "a kit"
    make_kit(Wanted((run_folder,), load_target("ios-xnnpack")), kit)
    return kit


def run_ios(kit: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    programs = [
        {"name": p.name, "sha256": "0" * 64} for p in sorted((kit / "programs").glob("*.pte"))
    ]
    run = {"wall_ms": [2.0, 2.5], "cpu_ms": [], "settled": True}
    process = {"runtime": "executorch 1.5.1", "programs": [run, run]}
    process["machine"] = {"cpu": "iPhone16,2", "architecture": "arm64", "date": "2026-01-01"}
    state = {"thermal_status": 0, "power_save": False}
    head = {"format": results.FORMAT, "runner": "ios-xctest", "device": "iPhone16,2", "threads": 0}
    head |= {"programs": programs, "before": state, "after": state, "warnings": ["through Swift"]}
    stand_in = folder / "bin" / "xcodebuild"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(
        XCODEBUILD.format(folder=folder, process=packed(process), head=packed(head))
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(kit / "run.sh"), *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_kit_for_ios(ios_kit: Path, tmp_path: Path) -> None:
    done = run_ios(ios_kit, tmp_path, "-p", "2", "-d", "platform=iOS,id=1", "-m", "TEAM")
    assert done.returncode == 0, done.stderr
    result = read_result(ios_kit / "result.json")
    assert len(result.processes) == 2
    assert result.kit is not None
    assert result.kit["platform"] == "ios"
    measured = measured_there(result, Device("phone", "xnnpack", "fp32"))
    assert measured[0].samples_ms == (2.0, 2.5, 2.0, 2.5)
    assert "through Swift" in measured[0].warnings
    called = (tmp_path / "arguments").read_text().splitlines()
    assert len(called) == 2
    assert "Host.xcodeproj -scheme HostTests" in called[0]
    assert "DEVELOPMENT_TEAM=TEAM" in called[0]
    resources = ios_kit / "runner" / "Tests" / "EdgepruneBenchTests" / "Programs"
    assert {p.name for p in resources.glob("*.pte")} == {"baseline.pte", "model.pte"}
    run_ios(ios_kit, tmp_path, "-p", "1")
    assert "-scheme EdgepruneBench" in (tmp_path / "arguments").read_text().splitlines()[-1]


@pytest.mark.skipif(shutil.which("xcodebuild") is not None, reason="Xcode is here")
def test_without_xcode_it_says_so() -> None:
    command = [IOS / "bench_ios.sh", "model.pte"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a Mac with Xcode" in done.stderr


GRADLE = """#!/bin/sh
ls src/androidTest/assets/programs >"{folder}/assets"
"""
ADB = """#!/bin/sh
echo "$@" >>"{folder}/arguments"
case $1 in
shell) echo "OK (1 test)" ;;
exec-out) echo '{result}' ;;
esac
"""


def test_the_apps_script(run_folder: Path, tmp_path: Path) -> None:
    app, folder = tmp_path / "app", tmp_path / "bin"
    shutil.copytree(ANDROID, app)
    (tmp_path / "kit.json").write_text("{}")
    folder.mkdir()
    said = {"format": results.FORMAT, "runner": "android-app", "device": "phone", "threads": 1}
    said |= {"programs": [], "processes": []}
    for name, text in (("gradle", GRADLE), ("adb", ADB)):
        (folder / name).write_text(text.format(folder=tmp_path, result=json.dumps(said)))
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    how = ["-p", "2", "-k", str(tmp_path), "-o", "result.json"]
    command = [str(app / "bench_app.sh"), *how]
    programs = [str(path) for path in run_folder.glob("*.pte")]
    done = subprocess.run(
        [*command, *programs],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert read_result(tmp_path / "result.json").runner == "android-app"
    names = (tmp_path / "assets").read_text().split()
    assert names == ["baseline.pte", "baseline.pte.json", "model.pte", "model.pte.json"]
    assert (app / "src" / "androidTest" / "assets" / "kit.json").exists()
    calls = [c for c in (tmp_path / "arguments").read_text().splitlines() if "instrument" in c]
    assert ["-e process 0" in calls[0], "-e process 1" in calls[1]] == [True, True]
    assert "uninstall" in (tmp_path / "arguments").read_text()


# --- compilers -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kotlinc") is None, reason="no kotlinc here")
def test_the_app_compiles_and_what_it_writes_is_read(tmp_path: Path) -> None:
    """Against stand-ins for Android's classes; what knows nothing of Android is run."""
    jar = tmp_path / "app.jar"
    sources = [ANDROID / "src" / "main", ANDROID / "src" / "androidTest", STAND_INS]
    command = ["kotlinc", "-Werror", *map(str, sources), "-include-runtime", "-d", str(jar)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        ["java", "-cp", str(jar), "dev.edgeprune.bench.MainKt"],
        capture_output=True,
        text=True,
        check=True,
    )
    path = tmp_path / "result.json"
    path.write_text(said.stdout)
    result = read_result(path)
    assert result.processes[0].machine is not None
    assert result.processes[0].machine.cpu == 'chip "A\\1"\n'
    slow, fast = measured_there(result, Device("phone", "xnnpack", "fp32"))
    assert (slow.median_ms, fast.median_ms) == (2.0, 1.0)


@pytest.mark.parametrize(("grammar", "pattern"), [("kotlin", "*.kt*"), ("swift", "*.swift")])
def test_sources_parse(grammar: str, pattern: str) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    language = pytest.importorskip(f"tree_sitter_{grammar}")
    parser = tree_sitter.Parser(tree_sitter.Language(language.language()))
    sources = sorted(shipped_directory().rglob(pattern))
    assert sources
    for source in sources:
        assert not parser.parse(source.read_bytes()).root_node.has_error, source
