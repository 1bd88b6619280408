"""The runner for Arm Ethos-U: cycles by Arm's own compiler, which are estimates; nothing is run."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

from edgeprune.errors import MeasureError
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import ProgramSamples, Session, SessionSamples
from edgeprune.records import Conditions, Progress, Target
from edgeprune.vela_reports import SUFFIX, VelaEstimate, estimate_from_json


@runner("vela")
def run_vela(session: Session, progress: Progress) -> SessionSamples:
    """Vela's estimate of each program, which `lower` kept beside it.

    Raises MeasureError for programs that edgeprune did not lower, or not for this accelerator.
    """
    estimates = [vela_estimate(path) for path in session.programs]
    for path, estimate in zip(session.programs, estimates, strict=True):
        _check(path, estimate, session.target)
    progress("measure", len(estimates), len(estimates))
    programs = tuple(
        ProgramSamples(wall_ms=((estimate.ms,),), cpu_ms=(), peak_rss_bytes=estimate.sram_bytes)
        for estimate in estimates
    )
    said = (
        f"estimated, not measured: cycles by Arm's compiler Vela for {estimates[0].system_config} "
        f"({estimates[0].memory_mode}) at {estimates[0].clock_hz / 1e6:.0f} MHz; memory is SRAM. "
        "What runs outside the NPU is not in it"
    )
    return SessionSamples(programs, _conditions(session.target, estimates[0]), (said,), True)


def vela_estimate(path: Path) -> VelaEstimate:
    """What Vela said of the program at `path`; MeasureError where nothing beside it fits."""
    kept = path.with_name(path.name + SUFFIX)
    try:
        document = json.loads(kept.read_text(encoding="utf-8"))
    except OSError:
        raise MeasureError(
            f"{kept.name} is not beside {path}: an Ethos-U program does not say itself how long it "
            "takes; lower it again with `edgeprune lower --target`, or keep both files together"
        ) from None
    if document["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        raise MeasureError(f"{kept.name} is of another program than {path}; lower it again")
    return estimate_from_json(document)


def _check(path: Path, estimate: VelaEstimate, target: Target) -> None:
    wanted = target.vela.accelerator if target.vela is not None else target.name
    if estimate.accelerator.lower().replace("_", "-") != wanted.lower():
        raise MeasureError(
            f"{path.name} was lowered for {estimate.accelerator}, and target {target.name!r} is "
            f"{wanted}: lower it for that target"
        )


def _conditions(target: Target, estimate: VelaEstimate) -> Conditions:
    return Conditions(
        device=target.name,
        cpu=estimate.accelerator,
        runtime=f"Vela, {estimate.system_config}, {estimate.memory_mode}",
        backend=target.backend,
        dtype=target.dtype,
        threads=target.threads,
        governor=None,
        frequency_mhz=estimate.clock_hz / 1e6,
        temperature_c=None,
        load=0.0,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
