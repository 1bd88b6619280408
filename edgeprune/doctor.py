"""What this installation is made of, whether its parts belong together, and how to mend it.

Only facts are gathered here; the command line shows them. What is required is read from the
metadata of the installed packages, so it is written down once, in pyproject.toml.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

# Whose requirements are checked, and which of them: executorch alone says which torchao it needs.
_DEMANDING: Mapping[str, frozenset[str] | None] = {
    "edgeprune": None,
    "executorch": frozenset({"torchao"}),
}
# Package -> what it gives, and how it is installed.
_OPTIONAL: Mapping[str, tuple[str, str]] = {
    "timm": ("--model timm:NAME", "pip install timm"),
    "coremltools": ("backend coreml", "pip install 'edgeprune[coreml]'"),
    "openvino": ("backend openvino", "pip install 'edgeprune[openvino]'"),
    "ethos-u-vela": ("backend ethos-u", "pip install 'edgeprune[ethos-u]', apart"),
    "tosa-tools": ("backend cortex-m", "pip install 'edgeprune[ethos-u]', apart"),
}
_RUNTIME = "executorch.runtime"
_IMPORTED = ("torch", "torchvision", _RUNTIME)
_NEEDED_BACKEND = "XnnpackBackend"
_PROBE_SECONDS = 300


@dataclass(frozen=True)
class Package:
    """One installed (or missing: `version` is None) package and the versions that are needed."""

    name: str
    version: str | None
    required: str
    required_by: str
    fits: bool


@dataclass(frozen=True)
class Extra:
    """A package that is not needed but gives something."""

    name: str
    version: str | None
    gives: str
    how: str


@dataclass(frozen=True)
class Machine:
    """The host that measures. What the platform does not let us read is None."""

    cpu: str
    cores: int
    usable_cores: int
    governor: str | None
    frequency_mhz: float | None
    load: float
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True)
class Finding:
    """Something wrong (or merely unfortunate) and what to do about it."""

    what: str
    mend: str


@dataclass(frozen=True)
class Probe:
    """What a fresh process found: the error of each import that failed, and the runtime's facts."""

    errors: Mapping[str, str]
    backends: tuple[str, ...] = ()
    threads: int | None = None


@dataclass(frozen=True)
class Health:
    """All that `edgeprune doctor` knows. `problems` must be mended; `advice` need not be."""

    python: str
    platform: str
    packages: tuple[Package, ...]
    backends: tuple[str, ...]
    threads: int | None
    machine: Machine | None
    extras: tuple[Extra, ...]
    problems: tuple[Finding, ...]
    advice: tuple[Finding, ...]

    @property
    def fit_for_work(self) -> bool:
        """True if nothing must be mended."""
        return not self.problems


def examine() -> Health:
    """Gather everything; takes some seconds, because a fresh process imports torch."""
    packages = tuple(required_packages())
    probe = probe_imports()
    machine = read_machine()
    return Health(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=packages,
        backends=probe.backends,
        threads=probe.threads,
        machine=machine,
        extras=tuple(
            Extra(name, installed_version(name), gives, how)
            for name, (gives, how) in _OPTIONAL.items()
        ),
        problems=(
            *python_problems(),
            *package_problems(packages),
            *probe_problems(probe, packages),
        ),
        advice=tuple(machine_advice(machine)),
    )


# --- packages --------------------------------------------------------------------------------


def installed_version(name: str) -> str | None:
    """The installed version of a distribution, None if it is not installed."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def required_packages() -> Iterator[Package]:
    """Every package that we need, with what is installed of it, in the order it is asked for."""
    for owner, wanted in _DEMANDING.items():
        try:
            requirements = distribution(owner).requires or []
        except PackageNotFoundError:
            yield Package(owner, None, "", "", fits=False)
            continue
        if owner == "edgeprune":
            yield Package(owner, installed_version(owner), "", "", fits=True)
        for text in requirements:
            requirement = Requirement(text)
            if wanted is not None and requirement.name not in wanted:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield _package(requirement, owner)


def _package(requirement: Requirement, owner: str) -> Package:
    version = installed_version(requirement.name)
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    return Package(requirement.name, version, str(requirement.specifier), owner, fits)


def python_problems() -> Iterator[Finding]:
    """Whether this Python is one that the installed edgeprune asks for."""
    try:
        wanted = distribution("edgeprune").metadata["Requires-Python"]
    except PackageNotFoundError:
        return
    if wanted and not SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        yield Finding(
            f"Python {platform.python_version()} is outside {wanted}",
            f"make a virtual environment with a Python {wanted}",
        )


def package_problems(packages: Sequence[Package]) -> Iterator[Finding]:
    """What is missing or of the wrong version, with the command that installs what is asked for."""
    for package in packages:
        if package.fits:
            continue
        if package.name == "edgeprune":
            yield Finding("edgeprune runs from its source but is not installed", "pip install -e .")
            continue
        have = f"is {package.version}" if package.version else "is not installed"
        yield Finding(
            f"{package.name} {have}; {package.required_by} needs {package.required or 'any'}",
            f'pip install "{package.name}{package.required}"',
        )


# --- what can be imported --------------------------------------------------------------------


def probe_imports(modules: Sequence[str] = _IMPORTED) -> Probe:
    """Import `modules` in a fresh process, so that a crash there is a finding and not our end."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", "edgeprune.doctor", str(found), *modules]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Probe({modules[-1]: f"no answer within {_PROBE_SECONDS} s"})
        facts = json.loads(found.read_text(encoding="utf-8")) if found.is_file() else {}
    errors = {name: text for name, text in facts.get("imports", {}).items() if text is not None}
    if ended.returncode != 0 and not errors:
        last_line = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        errors[modules[0]] = f"ended with exit code {ended.returncode}: {last_line}"
    return Probe(errors, tuple(facts.get("backends", ())), facts.get("threads"))


def _import_and_note(path: Path, modules: Sequence[str]) -> None:
    """The fresh process: import each module and note how it went, before and after."""
    imports: dict[str, str | None] = {}
    facts: dict[str, object] = {"imports": imports}
    for name in modules:
        imports[name] = "crashed the process"  # true unless we come back from the import
        path.write_text(json.dumps(facts), encoding="utf-8")
        try:
            import_module(name)
        except Exception as error:  # whatever a broken installation raises is what we came to see
            imports[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            imports[name] = None
        path.write_text(json.dumps(facts), encoding="utf-8")
    if _RUNTIME in imports and imports[_RUNTIME] is None:
        native = import_module("executorch.extension.pybindings.portable_lib")
        facts["backends"] = sorted(native._get_registered_backend_names())
        facts["threads"] = native._threadpool_get_thread_count()
        path.write_text(json.dumps(facts), encoding="utf-8")


def probe_problems(probe: Probe, packages: Sequence[Package]) -> Iterator[Finding]:
    """What could not be imported and why, with the known traps recognised."""
    versions = {package.name: package.version for package in packages}
    for module, error in probe.errors.items():
        name = module.partition(".")[0]
        if versions.get(name) is None and name in versions:
            continue  # not installed: already a finding
        if name == "torchvision" and "torchvision::nms does not exist" in error:
            yield _mixed_builds(versions, packages)
        else:
            yield Finding(
                f"import {module} fails: {error}", f"pip install --force-reinstall {name}"
            )
    if not probe.errors and _NEEDED_BACKEND not in probe.backends:
        yield Finding(
            f"the ExecuTorch runtime has no {_NEEDED_BACKEND} "
            f"(it has: {', '.join(probe.backends) or 'none'})",
            "install the executorch wheel from the package registry, not a build without XNNPACK",
        )


def _mixed_builds(versions: Mapping[str, str | None], packages: Sequence[Package]) -> Finding:
    """The registry's torchvision on a CPU-only torch: its compiled operators cannot be loaded."""
    both = " ".join(
        f'"{package.name}{package.required}"'
        for package in packages
        if package.name in ("torch", "torchvision")
    )
    torch, torchvision = versions.get("torch"), versions.get("torchvision")
    what = (
        f"torchvision {torchvision} was not built for torch {torch} (torchvision::nms is missing)"
    )
    if torch is not None and Version(torch).local == "cpu":
        what = f"torch {torch} is a CPU-only build and torchvision {torchvision} is not"
    return Finding(
        what,
        "install both from one place: both from the package registry "
        f"(pip install --force-reinstall {both}) or both from PyTorch's own CPU index",
    )


# --- the machine -----------------------------------------------------------------------------


def read_machine() -> Machine | None:
    """The host's facts; None where packages that read them are missing (a finding by itself)."""
    try:
        import psutil

        from edgeprune.cost import conditions
    except ImportError:
        return None
    memory = psutil.virtual_memory()
    process = psutil.Process()
    cores = psutil.cpu_count() or 1
    affinity = getattr(process, "cpu_affinity", None)  # not on macOS
    return Machine(
        cpu=conditions.cpu_model(),
        cores=cores,
        usable_cores=len(affinity()) if affinity is not None else cores,
        governor=conditions.governor(),
        frequency_mhz=conditions.frequency_mhz(),
        load=psutil.getloadavg()[0],
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        free_disk_bytes=psutil.disk_usage(str(Path.cwd())).free,
    )


def machine_advice(machine: Machine | None) -> Iterator[Finding]:
    """What makes measurements noisy or a run fail half-way, on an otherwise healthy host."""
    if machine is None:
        return
    if machine.governor not in (None, "performance"):
        yield Finding(
            f"the CPU governor is {machine.governor!r}: the clock changes while we measure",
            "set it to 'performance' for measurements that repeat",
        )
    if machine.load > machine.usable_cores / 2:
        yield Finding(
            f"other work is running (load {machine.load:.1f} on {machine.usable_cores} cores)",
            "stop it before measuring; a noisy verdict is 'undecidable'",
        )
    if machine.free_memory_bytes < 2_000_000_000:
        yield Finding("less than 2 GB of memory is free", "close other programs")
    if machine.free_disk_bytes < 1_000_000_000:
        yield Finding("less than 1 GB of disk is free here", "free some, or write elsewhere: -o")


if __name__ == "__main__":
    _import_and_note(Path(sys.argv[1]), sys.argv[2:])
