"""What is specific to a platform: the runner, the script that runs it, and how to read them."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import TargetError
from edgeprune.kit.readme import readme
from edgeprune.kit.records import Kit
from edgeprune.measuring.bundle import bundle_of, python_bundle
from edgeprune.records import Target
from edgeprune.targets import shipped_directory


@dataclass(frozen=True)
class Contents:
    """A kit under way: what it says of itself, and the target it is for."""

    kit: Kit
    target: Target


Make = Callable[[Contents], dict[str, bytes]]


@dataclass(frozen=True)
class Platform:
    """One row of the table: `files` are the platform's own, by path in the kit."""

    name: str
    files: Make


_PLATFORMS: dict[str, Platform] = {}
_LEFT = frozenset({"build", "bin", ".gradle", ".build", "assets", "local.properties"})
_OF_RUNNER = {"local": "linux", "ssh": "linux", "adb": "android"}


def platform(name: str) -> Callable[[Make], Make]:
    """Register the decorated function as what makes a platform's files."""

    def register(function: Make) -> Make:
        if name in _PLATFORMS:
            raise ValueError(f"platform {name!r} is registered twice")
        _PLATFORMS[name] = Platform(name, function)
        return function

    return register


def platform_of(target: Target) -> Platform:
    """The platform that a target's device runs: by its runner, else by what it requires.

    Raises TargetError for targets without an operating system that scripts run on.
    """
    first = target.requires.replace(",", " ").split()[:1]
    name = _OF_RUNNER.get(target.runner) or "".join(first).lower()
    found = _PLATFORMS.get(name)
    if found is None:
        raise TargetError(
            f"no kit is made for target {target.name!r}: its runner is {target.runner!r} and it "
            f"requires {target.requires or 'nothing'!r}; kits are for {', '.join(_PLATFORMS)} "
            "(the first word of `requires` names one)"
        )
    return found


@platform("linux")
def linux(contents: Contents) -> dict[str, bytes]:
    """The C++ runner's sources with their CMake file, the Python one for boards that have it, and
    the runner itself where the profile names one that was built."""
    sources = shipped_directory() / "linux"
    files = {
        f"runner/{path.relative_to(sources)}": path.read_bytes()
        for path in (
            *(sources / name for name in ("CMakeLists.txt", "README.md", "bench_linux.sh")),
            *sorted((sources / "runner").iterdir()),
        )
    }
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        (archive,) = python_bundle(Path(folder)).files
        files[f"runner/{archive.name}"] = archive.read_bytes()
    files |= _built(contents.target, "runner/bin")
    reach = contents.target.reach
    options = ["-k", "$kit", "-t", str(contents.kit.threads)]
    if reach.cpus:
        options += ["-c", ",".join(map(str, reach.cpus))]
    if reach.cool_below_c is not None:
        options += ["-C", f"{reach.cool_below_c:g}"]
    files["run.sh"] = _script("runner/bench_linux.sh", options, contents.kit)
    return files | readme(contents.kit)


@platform("android")
def android(contents: Contents) -> dict[str, bytes]:
    """The script for adb; the runner where the profile names one that was built; the app."""
    sources = shipped_directory() / "android"
    files = {
        f"runner/{name}": (sources / name).read_bytes()
        for name in ("README.md", "bench_android.sh")
    }
    files |= _folder(sources / "app", "app")
    files |= _built(contents.target, "runner")
    options = ["-k", "$kit", "-t", str(contents.kit.threads)]
    if contents.target.reach.cpus:
        options += ["-c", ",".join(map(str, contents.target.reach.cpus))]
    files["run.sh"] = _script("runner/bench_android.sh", options, contents.kit)
    return files | readme(contents.kit)


@platform("ios")
def ios(contents: Contents) -> dict[str, bytes]:
    """The Swift package with its XCTest, the app around it, and the script for xcodebuild."""
    files = _folder(shipped_directory() / "ios", "runner")
    files["run.sh"] = _script("runner/bench_ios.sh", ["-k", "$kit"], contents.kit)
    return files | readme(contents.kit)


def _folder(source: Path, name: str) -> dict[str, bytes]:
    """All of a shipped folder that is a source: what a build or a run left there is not."""
    return {
        f"{name}/{path.relative_to(source)}": path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and path.suffix != ".pte"
        and not _LEFT.intersection(path.relative_to(source).parts)
    }


def _built(target: Target, folder: str) -> dict[str, bytes]:
    """The runner of `reach.runner`, with what lies beside it."""
    if target.reach.runner is None:
        return {}
    bundle = bundle_of(Path(target.reach.runner).expanduser())
    return {f"{folder}/{path.name}": path.read_bytes() for path in bundle.files}


def _script(bench: str, options: list[str], kit: Kit) -> bytes:
    """run.sh: the platform's script on the kit's programs. Options of its own come first."""
    words = [*options, "-o", "$kit/result.json"]
    shown = " ".join(f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in words)
    programs = "".join(f' \\\n  "$kit"/{shlex.quote(program.file)}' for program in kit.programs)
    return (
        "#!/bin/sh\n"
        f"# Times this kit's programs and writes result.json beside this script.\n"
        f"# Options of {bench} may be given: its head lists them.\n"
        "set -eu\n"
        'kit=$(cd "$(dirname "$0")" && pwd)\n'
        f'exec sh "$kit"/{bench} {shown} "$@"{programs}\n'
    ).encode()
