"""The doctor: recognises what is wrong with an installation, and says how to mend it."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from edgeprune import doctor
from edgeprune.doctor import Machine, Package, Probe

NMS = "RuntimeError: operator torchvision::nms does not exist"
SOUND = (
    Package("torch", "2.14.1", ">=2.14,<2.15", "edgeprune", True),
    Package("torchvision", "0.29.2", ">=0.29,<0.30", "edgeprune", True),
    Package("executorch", "1.5.1", ">=1.5.1,<1.6", "edgeprune", True),
)
QUIET = Machine(
    cpu="a CPU",
    cores=4,
    usable_cores=4,
    governor="performance",
    frequency_mhz=2000.0,
    load=0.1,
    memory_bytes=8_000_000_000,
    free_memory_bytes=6_000_000_000,
    free_disk_bytes=50_000_000_000,
)


def test_what_is_required_comes_from_the_metadata():
    found = {package.name: package for package in doctor.required_packages()}
    ours = {Requirement(text).name for text in requires("edgeprune") or () if "extra" not in text}
    if platform.python_version_tuple() >= ("3", "11"):
        ours.discard("tomli")
    assert set(found) == ours | {"edgeprune", "torchao"}
    assert found["torchao"].required_by == "executorch"
    assert all(package.fits for package in found.values()), found


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [
        ("2.14.1", ">=2.14,<2.15", True),
        ("2.14.1+cpu", ">=2.14,<2.15", True),
        ("2.13.0+cpu", ">=2.14,<2.15", False),
        ("2.15.0", ">=2.14,<2.15", False),
        (None, ">=2.14,<2.15", False),
    ],
)
def test_versions_that_fit(monkeypatch, version, specifier, fits):
    monkeypatch.setattr(doctor, "installed_version", lambda name: version)
    package = doctor._package(Requirement(f"torch{specifier}"), "edgeprune")
    assert package.fits is fits
    findings = list(doctor.package_problems([package]))
    assert len(findings) == (0 if fits else 1)
    for finding in findings:
        assert (version or "not installed") in finding.what
        assert finding.mend.startswith('pip install "torch')


def test_a_cpu_only_torch_with_the_registrys_torchvision_is_recognised():
    packages = (replace(SOUND[0], version="2.14.1+cpu"), *SOUND[1:])
    (finding,) = doctor.probe_problems(Probe({"torchvision": NMS}), packages)
    assert "torch 2.14.1+cpu is a CPU-only build and torchvision 0.29.2 is not" in finding.what
    assert '"torch>=2.14,<2.15" "torchvision>=0.29,<0.30"' in finding.mend
    assert "PyTorch's own CPU index" in finding.mend


def test_other_mismatched_builds_are_not_called_cpu_only():
    (finding,) = doctor.probe_problems(Probe({"torchvision": NMS}), SOUND)
    assert "was not built for torch 2.14.1" in finding.what


def test_an_import_that_fails_is_told_unless_the_package_is_missing_anyway():
    errors = {"torch": "OSError: libgomp.so: no such file", "executorch.runtime": "ImportError: x"}
    packages = (*SOUND[:2], replace(SOUND[2], version=None))
    (finding,) = doctor.probe_problems(Probe(errors), packages)
    assert finding.what == "import torch fails: OSError: libgomp.so: no such file"


def test_a_runtime_without_xnnpack_cannot_work():
    (finding,) = doctor.probe_problems(Probe({}, ("QnnBackend",)), SOUND)
    assert "XnnpackBackend" in finding.what
    assert not list(doctor.probe_problems(Probe({}, ("XnnpackBackend",)), SOUND))


def test_the_probe_survives_imports_that_fail_or_kill_their_process(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('two\\nlines')")
    (tmp_path / "killing_module.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe = doctor.probe_imports(("json", "broken_module", "killing_module", "csv"))
    assert probe.errors == {
        "broken_module": "RuntimeError: two",
        "killing_module": "crashed the process",
    }
    assert probe.backends == ()


def test_a_quiet_machine_needs_no_advice():
    assert not list(doctor.machine_advice(QUIET))
    assert not list(doctor.machine_advice(None))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"governor": "powersave"}, "'powersave'"),
        ({"load": 3.5}, "load 3.5 on 4 cores"),
        ({"free_memory_bytes": 10**9}, "memory"),
        ({"free_disk_bytes": 10**8}, "disk"),
    ],
)
def test_what_disturbs_measurements_is_advice(change, said):
    (finding,) = doctor.machine_advice(replace(QUIET, **change))
    assert said in finding.what


def test_this_installation_is_fit_for_work():
    health = doctor.examine()
    assert health.problems == ()
    assert health.fit_for_work
    assert "XnnpackBackend" in health.backends
    assert health.threads is not None
    assert health.threads >= 1
    assert health.machine is not None
    assert health.machine.cpu
