"""The table of runners: how programs get onto a target and are timed there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from edgeprune.errors import MeasureError
from edgeprune.measuring.session import Session, SessionSamples
from edgeprune.records import Progress, Target, silent

RUNNER_FILES = ("local", "ssh", "adb", "vela", "roofline")
"""The modules of this package that register runners."""

NOT_REACHED = "none"
"""What a profile says instead of a runner where nothing here reaches the device."""

KIT = "kit"
"""The runner of devices that only others reach: kits are made for them, and results imported."""

Run = Callable[[Session, Progress], SessionSamples]

_RUNNERS: dict[str, Run] = {}


def runner(name: str) -> Callable[[Run], Run]:
    """Register the decorated function as the runner that target profiles call `name`."""

    def register(function: Run) -> Run:
        if name in _RUNNERS:
            raise ValueError(f"runner {name!r} is registered twice")
        _RUNNERS[name] = function
        return function

    return register


def run(session: Session, progress: Progress = silent) -> SessionSamples:
    """Time a session's programs with its target's runner.

    Raises MeasureError where the runner does not exist (naming those that do) or fails.
    """
    for file in RUNNER_FILES:
        import_module(f"edgeprune.measuring.{file}")
    check_reached(session.target)
    found = _RUNNERS.get(session.target.runner)
    if found is None:
        raise MeasureError(
            f"target {session.target.name!r} asks for runner {session.target.runner!r}, which does "
            f"not exist; runners: {', '.join(sorted(_RUNNERS))}"
        )
    return found(session, progress)


def check_reached(target: Target) -> None:
    """Raises MeasureError for targets on which nothing here can run a program."""
    if target.runner == NOT_REACHED:
        raise MeasureError(
            f"edgeprune reaches no such device as target {target.name!r} ({target.description}): "
            "measure the program there with its own tools or a kit (`edgeprune kit`), or use a "
            'profile with runner = "roofline" for an estimate'
        )
    if target.runner == KIT:
        raise MeasureError(
            f"target {target.name!r} is reached by kits only: `edgeprune kit kit.zip PROGRAMS "
            "--target ...`, run it on the device, and `edgeprune report RUN --import result.json`; "
            "to plan for it, `edgeprune plan` and `lower`"
        )
