"""What is put on a board to measure with: the C++ runner and its libraries, or Python files."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path

from edgeprune.errors import TargetError
from edgeprune.targets import shipped_directory

RUNNER = "edgeprune_runner"
_PYTHON_FILES = ("bench", "worker", "loaded", "machine", "memory", "timing", "batches")
_BUILD_S = 300


@dataclass(frozen=True)
class Bundle:
    """A folder of files that belong beside each other, and a name that changes with them."""

    files: tuple[Path, ...]
    digest: str


class CannotBuild(Exception):
    """Why there is no C++ runner for an architecture, and how there could be."""


def sources() -> Path:
    """Where the C++ runner's sources and step.sh lie: in the wheel as in a checkout."""
    return shipped_directory() / "linux"


def bundle_of(folder: Path) -> Bundle:
    """The files of a folder that CMake installed a runner to; TargetError where it has none."""
    if not (folder / RUNNER).is_file():
        raise TargetError(
            f"reach.runner: {folder} has no {RUNNER}; build one as {sources() / 'README.md'} says"
        )
    return _bundle(sorted(path for path in folder.iterdir() if path.is_file()))


def runner_bundle(architecture: str, cache: Path | None = None) -> Bundle:
    """The C++ runner for boards of this machine's own architecture, built once and kept.

    It is built by CMake and the C++ compiler from the sources shipped with edgeprune, against the
    installed executorch wheel, into `cache` (by default the user's). A runner that somebody
    installed there for another architecture is taken too. Raises CannotBuild.
    """
    kept = (cache or Path.home() / ".cache" / "edgeprune" / "runners") / _build_name(architecture)
    if (kept / RUNNER).is_file():
        return bundle_of(kept)
    if architecture != platform.machine():
        raise CannotBuild(
            f"no runner for {architecture} is at hand: build one as {sources() / 'README.md'} "
            "says and name its folder in the profile's reach.runner"
        )
    missing = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
    if missing:
        raise CannotBuild(f"building the runner needs {' and '.join(missing)}, not found here")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        installed = _built(Path(folder))
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=kept.parent, prefix=".new-"))
        shutil.copytree(installed, fresh, dirs_exist_ok=True)
        try:
            fresh.rename(kept)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return bundle_of(kept)


def python_bundle(folder: Path) -> Bundle:
    """`bench.pyz` in `folder`: the worker that measures on this machine, for a board's Python."""
    archive = folder / "bench.pyz"
    here = Path(__file__).parent
    start = "import sys\nfrom edgeprune.measuring.bench import main\nsys.exit(main())\n"
    members = {
        "__main__.py": start,
        "edgeprune/__init__.py": "",
        "edgeprune/measuring/__init__.py": "",
    }
    for name in _PYTHON_FILES:
        members[f"edgeprune/measuring/{name}.py"] = (here / f"{name}.py").read_text("utf-8")
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in members.items():
            # A fixed date, so that the same files give the same bytes and are pushed once.
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return _bundle([archive])


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bundle(files: list[Path]) -> Bundle:
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.name} {digest_of(path)}\n".encode())
    return Bundle(tuple(files), whole.hexdigest()[:16])


def _build_name(architecture: str) -> str:
    """Changes with whatever the result depends on, so that what is kept is never stale."""
    whole = hashlib.sha256()
    for path in sorted([sources() / "CMakeLists.txt", *(sources() / "runner").iterdir()]):
        whole.update(path.read_bytes())
    return f"{architecture}-executorch-{version('executorch')}-{whole.hexdigest()[:12]}"


def _built(folder: Path) -> Path:
    wheel = Path(str(distribution("executorch").locate_file("executorch")))
    build, installed = folder / "build", folder / "installed"
    for command in (
        ["cmake", "-S", str(sources()), "-B", str(build), f"-DEXECUTORCH_ROOT={wheel}"],
        ["cmake", "--build", str(build)],
        ["cmake", "--install", str(build), "--prefix", str(installed)],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_BUILD_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotBuild(f"building the runner took more than {_BUILD_S} s") from None
        if done.returncode != 0:
            lines = [x.strip() for x in (done.stdout + done.stderr).splitlines() if "rror" in x]
            said = lines[0] if lines else f"exit code {done.returncode}"
            raise CannotBuild(f"building the runner failed: {said} ({' '.join(command[:2])})")
    return installed
