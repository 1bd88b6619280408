"""`edgeprune doctor`: what this installation is made of and whether it can work."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from edgeprune.cli import show
from edgeprune.cli.options import JsonOption
from edgeprune.cli.progress import progress

if TYPE_CHECKING:
    from edgeprune.doctor import Health, Machine

UNFIT = 2


def doctor(json: JsonOption = False) -> None:
    """Say whether this installation can work, and how to mend it if not.

    Versions and whether they belong together, the runtime's backends, threads, the
    processor and its clock, memory and disk. Takes some seconds. Ends with 0 if all
    is well and 2 if something must be mended.

    \b
    Examples:
      edgeprune doctor
      edgeprune doctor --json
    """
    with progress() as report_progress:
        report_progress("doctor", 0, 0, "importing torch and the runtime in a fresh process")
        from edgeprune.doctor import examine

        health = examine()
    if json:
        show.document({"fit_for_work": health.fit_for_work, **asdict(health)})
    else:
        _show(health)
    if not health.fit_for_work:
        raise typer.Exit(UNFIT)


def _show(health: Health) -> None:
    show.line(f"Python {health.python} on {health.platform}\n")
    for package in health.packages:
        mark = "ok" if package.fits else "!!"
        needs = f"needs {package.required}" if package.required else ""
        show.line(f"  {mark}  {package.name:<13} {package.version or 'missing':<13} {needs}")
    for extra in health.extras:
        how = "" if extra.version else f"optional: {extra.gives} ({extra.how})"
        show.line(f"  --  {extra.name:<13} {extra.version or 'missing':<13} {how}")
    show.line(f"\nExecuTorch backends: {', '.join(health.backends) or 'unknown'}")
    show.line(f"runtime threads by default: {health.threads or 'unknown'}")
    if health.machine is not None:
        _show_machine(health.machine)
    for heading, findings in (("to mend:", health.problems), ("advice:", health.advice)):
        if findings:
            show.line(f"\n{heading}")
        for finding in findings:
            show.line(f"  {finding.what}\n    -> {finding.mend}")
    show.line("\nfit for work" if health.fit_for_work else "\nnot fit for work yet: see above")


def _show_machine(machine: Machine) -> None:
    clock = "unreadable" if machine.frequency_mhz is None else f"{machine.frequency_mhz:.0f} MHz"
    show.line(f"CPU: {machine.cpu}, {machine.usable_cores} of {machine.cores} cores usable")
    show.line(
        f"clock: {clock}, governor: {machine.governor or 'unreadable'}, load: {machine.load:.2f}"
    )
    show.line(
        f"memory: {_gigabytes(machine.free_memory_bytes)} free of "
        f"{_gigabytes(machine.memory_bytes)}; disk: {_gigabytes(machine.free_disk_bytes)} free here"
    )


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB"
