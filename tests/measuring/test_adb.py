"""The adb runner: the real adb client against a process that speaks adbd's wire protocol."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_adbd import Device

from edgeprune.cost.table import CostTable
from edgeprune.cost.tiles import probe
from edgeprune.cost.wanted import Sweep
from edgeprune.errors import MeasureError, TargetError
from edgeprune.importing import import_into_table
from edgeprune.kit import Wanted, make_kit
from edgeprune.kit.packing import unpacked
from edgeprune.measuring import Effort, adb, compare, measure, speedup
from edgeprune.measuring.adb import AdbBoard
from edgeprune.measuring.answers import FORMAT
from edgeprune.measuring.onboard import OnBoard, Step
from edgeprune.measuring.results import read_result
from edgeprune.measuring.telling import Device as Described
from edgeprune.measuring.telling import measured_there
from edgeprune.records import Reach, Target
from edgeprune.targets import shipped_directory

pytestmark = pytest.mark.skipif(
    shutil.which("adb") is None, reason="no adb here (Debian: apt-get install adb)"
)

DEVICE = Described("phone", "xnnpack", "fp32")
LITTLE = Effort(processes=2, rounds=3, min_block_ms=0.3, timeout_s=120)

COOL = "Thermal Status: 0"
AWAKE = "mWakefulness=Awake"


class Android:
    """What the device's own commands answer; a test may change it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        script = folder / "dumpsys"
        script.write_text(f'#!/bin/sh\ncat "{folder}/$1.txt"\n')
        (folder / "settings").write_text(f'#!/bin/sh\ncat "{folder}/low_power.txt"\n')
        for path in folder.iterdir():
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.says(thermalservice=COOL, battery="  level: 80", power=AWAKE, low_power="0")

    def says(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / f"{name}.txt").write_text(text + "\n")


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Android:
    return Android(tmp_path_factory.mktemp("android") / "bin")


@pytest.fixture(scope="module")
def device(phone: Android, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """One device, and an adb server of our own: its port and its keys are not the user's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Device(str(phone.folder))
    found.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        try:
            subprocess.run(["adb", "connect", found.serial], capture_output=True, check=True)
            yield found
        finally:
            subprocess.run(["adb", "kill-server"], capture_output=True, check=False)
            found.stop()


@pytest.fixture
def target(device: Device, native: Path, tmp_path: Path) -> Target:
    reach = Reach(hosts=(device.serial,), runner=str(native), folder=str(tmp_path / "device"))
    return Target("phone", "", "xnnpack", "adb", "fp32", 1, "measured", reach=reach)


def test_samples_from_a_device(narrow, wide, target: Target, device: Device) -> None:
    slow, fast = compare([wide.artifact, narrow.artifact], target, LITTLE)
    assert speedup(slow, fast)[0] > 1  # 36 times the work
    assert (len(slow.samples_ms), slow.processes) == (6, 2)
    assert slow.conditions.device == device.serial
    assert slow.conditions.runtime.startswith("executorch 1.5")
    assert fast.peak_rss_bytes > 0
    assert not any("screen" in warning or "hot" in warning for warning in slow.warnings)


def test_the_only_device_needs_no_name(narrow, target: Target, device: Device) -> None:
    nameless = replace(target, reach=replace(target.reach, hosts=()))
    assert measure(narrow.artifact, nameless, LITTLE).conditions.device == device.serial


def test_a_cable_pulled_in_the_middle(
    wide, target: Target, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []
    answer = OnBoard._answer

    def noted(self: OnBoard, step: Step, place: str, code: int) -> dict[str, Any]:
        places.append(place.rpartition("/")[2])
        return answer(self, step, place, code)

    def outage() -> None:
        device.stop()
        device.start()

    timers: list[threading.Timer] = []

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if "process 1" in note:
            timers.append(threading.Timer(1.5, outage))
            timers[0].start()

    monkeypatch.setattr(OnBoard, "_answer", noted)
    effort = Effort(processes=2, rounds=150, min_block_ms=20.0, timeout_s=120)
    measured = measure(wide.artifact, target, effort, progress)
    timers[0].join()
    assert len(measured.samples_ms) == 300
    assert places == ["0-0", "1-0"]  # each at its first attempt


def test_what_the_device_says_of_itself_is_passed_on(
    narrow, target: Target, phone: Android, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb, "_COOL_S", 0.2)
    monkeypatch.setattr(adb, "_PAUSE_S", 0.1)
    phone.says(
        thermalservice="Thermal Status: 3",
        battery="  level: 7",
        power="mWakefulness=Asleep",
        low_power="1",
    )
    try:
        warnings = " ".join(measure(narrow.artifact, target, LITTLE).warnings)
    finally:
        phone.says(thermalservice=COOL, battery="  level: 80", power=AWAKE, low_power="0")
    for said in ("severe", "battery is at 7 %", "battery saver is on", "screen is off"):
        assert said in warnings


def test_it_waits_until_the_device_is_cool(
    narrow, target: Target, phone: Android, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    phone.says(thermalservice="Thermal Status: 1")
    monkeypatch.setattr(adb, "_PAUSE_S", 0.1)

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        notes.append(note)
        if "waiting" in note:
            phone.says(thermalservice=COOL)

    warnings = measure(narrow.artifact, target, LITTLE, progress).warnings
    assert any("hot (light), waiting" in note for note in notes)
    assert not any("hot" in warning for warning in warnings)


def test_files_and_words_arrive_as_they_are(target: Target, tmp_path: Path) -> None:
    board = AdbBoard(target.reach.hosts[0], target.reach)
    words = ["$(id)", "a b", "'", '"', ";", "*", "-n"]
    assert board.call(["printf", "%s|", *words]).text == "|".join(words) + "|"
    assert board.call(["sh", "-c", "exit 7"]).code == 7
    (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
    board.push(tmp_path / "data", f"{tmp_path}/there")
    assert board.pull(f"{tmp_path}/there") == bytes(range(256)) * 1000
    with pytest.raises(MeasureError, match="cannot be written there"):
        board.push(tmp_path / "data", "/no/such/folder/data")
    with pytest.raises(MeasureError, match="cannot be read"):
        board.pull(f"{tmp_path}/missing")


def test_a_device_that_is_not_there(narrow, target: Target) -> None:
    away = replace(target, reach=replace(target.reach, hosts=("emulator-5554",), reconnect_s=0.2))
    with pytest.raises(MeasureError, match=r"emulator-5554 cannot be reached.*not found"):
        measure(narrow.artifact, away, LITTLE)


def test_serials_that_are_none() -> None:
    for serial in ("-s other", "a b", "", "a;b"):
        with pytest.raises(TargetError, match=r"reach\.hosts"):
            AdbBoard(serial, Reach())


# --- targets/android/bench_android.sh ---------------------------------------------------------

SCRIPT = shipped_directory() / "android" / "bench_android.sh"


def bench(device: Device, runners: Path, folder: Path, *programs: Path, code: int = 0) -> Any:
    """What the script writes; it runs in dash, and leaves nothing on the device."""
    where = ["-s", device.serial, "-r", str(runners), "-d", str(folder / "there")]
    how = ["-p", "2", "-n", "3", "-w", "0", "-o", str(folder / "result.json")]
    command = ["/bin/sh", str(SCRIPT), *where, *how, *(str(path) for path in programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert not (folder / "there").exists()
    return json.loads((folder / "result.json").read_text()) if code == 0 else done.stderr


def test_the_script_with_our_runner(
    narrow, wide, device: Device, native: Path, tmp_path: Path
) -> None:
    result = bench(device, native, tmp_path, wide.artifact.path, narrow.artifact.path)
    assert result["format"] == "edgeprune-bench/1"
    assert [p["name"] for p in result["programs"]] == ["net96x1.pte", "net16x1.pte"]
    assert result["programs"][0]["sha256"] == wide.artifact.sha256
    assert len(result["processes"]) == 2
    for process in result["processes"]:
        assert process["format"] == FORMAT
        assert [len(p["wall_ms"]) for p in process["programs"]] == [3, 3]
    assert result["before"]["battery_percent"] == 80
    assert result["before"]["screen"] == "Awake"
    assert result["after"]["thermal_status"] == 0
    assert [len(process["programs"]) for process in result["alone"]] == [1, 1]
    assert result["alone"][0]["peak_rss_bytes"] > 0
    read = read_result(tmp_path / "result.json")
    assert read.system.startswith("Android")
    slow, fast = measured_there(read, DEVICE)
    assert speedup(slow, fast)[0] > 1  # 36 times the work
    assert slow.peak_rss_bytes == result["alone"][0]["peak_rss_bytes"]


def test_a_kit_for_android(narrow, device: Device, native: Path, tmp_path: Path) -> None:
    """Made, run by its own script through adb, and read back: times, outputs and kernels."""
    reach = Reach(runner=str(native))
    phone = Target("phone", "", "xnnpack", "adb", "fp32", 1, "measured", reach=reach)
    keys = tuple(probe("conv", channels) for channels in (8, 16, 24))
    kit = tmp_path / "kit"
    made = make_kit(Wanted((narrow.artifact.path,), phone, (Sweep(keys, 1_000_000),)), kit)
    how = ["-s", device.serial, "-d", str(tmp_path / "there"), "-p", "1", "-n", "3"]
    done = subprocess.run([kit / "run.sh", *how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "there").exists()
    result = read_result(kit / "result.json")
    assert len(measured_there(result, DEVICE)) == 1
    (outputs,), (program,) = result.outputs, made.programs
    y, expected = (
        np.frombuffer(unpacked(texts[0], "y"), np.float32)
        for texts in (outputs.outputs, program.expected)
    )
    assert np.array_equal(y, expected)
    table = tmp_path / "table.sqlite"
    tabled = import_into_table(result, table)
    assert (tabled.kernels, tabled.samples) == (3, 3 * 2 * 8)
    assert set(CostTable(table).estimates(keys, tabled.conditions)) == set(keys)


def test_the_script_with_the_sdks_runner(narrow, device: Device, tmp_path: Path) -> None:
    """A stand-in prints what the SDK's executor_runner prints."""
    runners = tmp_path / "sdk"
    runners.mkdir()
    fake = runners / "executor_runner"
    fake.write_text(
        '#!/bin/sh\necho "I 00:00 runner.cpp:1] Model loaded in 3.5 ms."\n'
        "for i in 1 2 3 4 5 6 7 8; do\n"
        '  echo "I 00:00 runner.cpp:2] Iteration $i of 8: $i.5 ms"\n'
        "done\n"
    )
    fake.chmod(0o755)
    result = bench(device, runners, tmp_path, narrow.artifact.path)
    for process in result["processes"]:
        assert process["programs"][0]["wall_ms"] == [6.5, 7.5, 8.5]  # five are warm-up


def test_the_script_says_what_is_wrong(
    narrow, device: Device, native: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pte"
    bad.write_text("no program")
    assert "cannot load" in bench(device, native, tmp_path, bad, code=2)
    missing = tmp_path / "missing.pte"
    assert "no such program" in bench(device, native, tmp_path, missing, code=2)
    assert "neither edgeprune_runner" in bench(device, tmp_path, tmp_path, bad, code=2)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
@pytest.mark.parametrize("path", sorted(shipped_directory().rglob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_clean(path: Path) -> None:
    done = subprocess.run(["shellcheck", path], capture_output=True, text=True, check=False)
    assert done.stdout == ""
