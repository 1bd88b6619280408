"""The C++ runner for boards, built and run here: what it computes and what it answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.cost.flatbuffer import decode, read_schema
from edgeprune.cost.pte_parts import runtime_package
from edgeprune.errors import TargetError
from edgeprune.measuring import execute
from edgeprune.measuring.answers import FORMAT
from edgeprune.measuring.bundle import RUNNER, CannotBuild, bundle_of, runner_bundle, sources

QUICK = ("--rounds", "3", "--min-block-ms", "0.2", "--warmup-ms", "50")


def run(native: Path, *arguments: object, before: tuple[str, ...] = ()) -> dict[str, Any]:
    """The runner's answer; its exit code must agree with it."""
    command = [*before, str(native / RUNNER), *(str(word) for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (2 if "error" in answer else 0)
    return answer


def outputs(native: Path, program: Path, x: Any, folder: Path, **how: Any) -> Any:
    """What the runner computes for inputs (N, ...), as many rows as it wrote."""
    given = folder / "input.bin"
    given.write_bytes(np.ascontiguousarray(x, dtype=np.float32).tobytes())
    answer = run(native, "execute", "--input", given, "--outputs", folder / "y", program, **how)
    (described,) = answer["outputs"]
    flat = np.fromfile(folder / "y0.bin", described["dtype"])
    return flat.reshape(-1, *described["shape"][1:])


def images(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3, 16, 16)).astype(np.float32)


def test_outputs_are_pythons(native: Path, narrow, pairs, foreign: Path, tmp_path: Path) -> None:
    """Bit for bit, over several batches, with planned inputs and outputs and without."""
    x = images(6)
    for program in (narrow.artifact.path, pairs.artifact.path, foreign):
        y = outputs(native, program, x[:5] if program == foreign else x, tmp_path)
        expected = execute(program, [x[: len(y)]])
        assert len(y) >= 5
        assert np.array_equal(y, expected[0])


def test_samples_of_programs_that_take_turns(native: Path, narrow, wide) -> None:
    paths = (wide.artifact.path, narrow.artifact.path)
    answer = run(native, "time", *QUICK, *paths)
    assert answer["format"] == FORMAT
    assert answer["runtime"].startswith("executorch 1.5")
    assert answer["process_s"] > 0
    assert answer["peak_rss_bytes"] > 0
    slow, fast = answer["programs"]
    for program in (slow, fast):
        assert len(program["wall_ms"]) == len(program["cpu_ms"]) == 3
        assert not program["planned_inputs"]
        assert program["executions"] >= 1
        assert program["inputs"] == [{"dtype": "float32", "shape": [1, 3, 16, 16]}]
    assert np.median(slow["cpu_ms"]) > np.median(fast["cpu_ms"])  # 36 times the work
    assert slow["executions"] <= fast["executions"]


def test_threads_and_processors(native: Path, narrow) -> None:
    cpu = run(native, "time", *QUICK, narrow.artifact.path)["machine"]["cpus"][-1]
    answer = run(native, "time", *QUICK, "--threads", 2, "--cpus", cpu, narrow.artifact.path)
    assert answer["machine"]["cpus"] == [cpu]
    assert answer["programs"][0]["cpu_ms"] == []
    assert (
        "cannot run on processors"
        in run(native, "time", "--cpus", 900, narrow.artifact.path)["error"]
    )


def test_planned_inputs_are_told(native: Path, foreign: Path) -> None:
    assert run(native, "time", *QUICK, foreign)["programs"][0]["planned_inputs"]


def test_the_answer_goes_to_a_file(native: Path, narrow, tmp_path: Path) -> None:
    command = [native / RUNNER, "time", *QUICK, "--out", tmp_path / "a.json", narrow.artifact.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert json.loads((tmp_path / "a.json").read_text())["format"] == FORMAT


def test_a_trace_of_every_execution(native: Path, narrow, tmp_path: Path) -> None:
    dump = tmp_path / "trace.etdp"
    run(native, "trace", "--rounds", 3, "--etdump", dump, narrow.artifact.path)
    schema = read_schema(runtime_package() / "devtools" / "etdump" / "etdump_schema_flatcc.fbs")
    runs = decode(schema, "ETDump", dump.read_bytes()[4:])["run_data"]
    executions = [one for one in runs if one["name"] == "Execute"]
    assert len(executions) == 3
    names = [
        e["profile_event"].get("name") for e in executions[0]["events"] if "profile_event" in e
    ]
    assert "DELEGATE_CALL" in names


def test_what_it_cannot_do_is_an_answer_too(native: Path, narrow, tmp_path: Path) -> None:
    program = narrow.artifact.path
    text, short = tmp_path / "notes.pte", tmp_path / "short.bin"
    text.write_text("this is no program")
    short.write_bytes(b"1234")
    for arguments, says in (
        (["time"], "no program given"),
        (["time", text], "cannot load .*notes.pte"),
        (["time", tmp_path / "missing.pte"], "cannot load"),
        (["time", "--rounds", "many", program], "--rounds many is no number"),
        (["time", "--speed", "1", program], "unknown option --speed"),
        (["execute", program], "takes 1 inputs.*0 were given"),
        (["execute", "--input", short, program], r"4 bytes.*\[1, 3, 16, 16\]"),
        (["execute", "--input", tmp_path / "no.bin", program], "cannot read"),
        (["trace", program], "needs --etdump"),
    ):
        error = run(native, *arguments)["error"]
        assert re.search(says, error), error


def test_without_arguments_it_says_how_it_is_used(native: Path) -> None:
    done = subprocess.run([native / RUNNER], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


def test_a_folder_without_a_runner(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"reach\.runner.*no edgeprune_runner"):
        bundle_of(tmp_path)


def test_other_architectures_are_not_built_here(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match=r"no runner for riscv64.*reach\.runner"):
        runner_bundle("riscv64", tmp_path)


# --- aarch64 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner built by Debian's cross compiler against the aarch64 wheel."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if not (compiler and shutil.which("cmake") and shutil.which("qemu-aarch64")):
        pytest.skip("needs cmake, g++-aarch64-linux-gnu and qemu-user")
    folder = tmp_path_factory.mktemp("aarch64")
    wanted = ["--platform", "manylinux_2_28_aarch64", "--only-binary=:all:", "executorch==1.5.1"]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *wanted]
    if subprocess.run(pip, capture_output=True, check=False).returncode != 0:
        pytest.skip("the aarch64 wheel of executorch cannot be downloaded here")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "wheel")
    build = str(folder / "build")
    settings = [
        f"-DEXECUTORCH_ROOT={folder}/wheel/executorch",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
    ]
    for command in (
        ["cmake", "-S", str(sources()), "-B", build, *settings],
        ["cmake", "--build", build],
        ["cmake", "--install", build, "--prefix", str(folder / "bundle")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bundle"


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
def test_outputs_on_aarch64_are_x86s(
    arm: Path, native: Path, narrow, tmp_path: Path, cpu: str
) -> None:
    """fp32 sums in another order: equal to a few units in the last place, and the same classes."""
    emulated = ("qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu")
    x = images(4)
    here = outputs(native, narrow.artifact.path, x, tmp_path)
    there = outputs(arm, narrow.artifact.path, x, tmp_path, before=emulated)
    assert np.allclose(here, there, rtol=1e-5, atol=1e-6)
    assert np.array_equal(here.argmax(1), there.argmax(1))
