"""The runner for devices nobody has at hand: what a program takes at best, by peak rates."""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from math import prod
from pathlib import Path

from edgeprune.cost.pte_parts import NotUnderstood, take_apart
from edgeprune.cost.roofline import Roof, Work, graph_work, roof_of
from edgeprune.errors import MeasureError
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import ProgramSamples, Session, SessionSamples
from edgeprune.records import Conditions, Progress, Target

# Bytes of one element by ExecuTorch's ScalarType.
_ELEMENT_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 11: 1, 15: 2}


@runner("roofline")
def run_roofline(session: Session, progress: Progress) -> SessionSamples:
    """One estimate for each program, marked as one; nothing is run.

    Raises TargetError where the profile has no peak rates, MeasureError for programs whose work
    cannot be read from the file (other delegates than XNNPACK).
    """
    roof = roof_of(session.target)
    programs = []
    for i, path in enumerate(session.programs):
        progress("measure", i, len(session.programs), f"estimating {path.name}")
        programs.append(_estimated(path, roof))
    progress("measure", len(programs), len(programs))
    said = (
        f"estimated, not measured: the best that {session.target.name}'s peak rates allow "
        f"({roof.source}); a real device takes longer"
    )
    return SessionSamples(tuple(programs), _conditions(session.target), (said,), estimated=True)


def program_work(path: Path) -> list[Work]:
    """The work of every kernel of a .pte; MeasureError where it cannot be read."""
    try:
        parts = take_apart(path.read_bytes())
    except (NotUnderstood, struct.error, KeyError, IndexError, ValueError) as error:
        raise MeasureError(
            f"the work of {path.name} cannot be read from the file: {error}"
        ) from error
    found = [
        work for graph in parts.graphs for work in graph_work(graph["xnodes"], graph["xvalues"])
    ]
    (plan,) = parts.program["execution_plan"]
    tensors = {
        i: held["val"][1]
        for i, held in enumerate(plan["values"])
        if held.get("val") and held["val"][0] == "Tensor"
    }
    for chain in plan["chains"]:
        for instruction in chain["instructions"]:
            kind, fields = instruction["instr_args"]
            if kind != "KernelCall":
                continue
            # What falls out of the delegate is rarely what computes: it is counted as moving.
            held = {i for i in fields.get("args", ()) if i in tensors}
            found.append(Work(0, sum(_bytes(tensors[i]) for i in held)))
    return found


def _bytes(tensor: dict[str, object]) -> int:
    sizes = tensor.get("sizes", ())
    assert isinstance(sizes, (tuple, list))
    scalar = tensor.get("scalar_type", 0)
    return prod(sizes) * _ELEMENT_BYTES.get(int(str(scalar)), 4)


def _estimated(path: Path, roof: Roof) -> ProgramSamples:
    ms = sum(roof.us(work) for work in program_work(path)) / 1000
    return ProgramSamples(wall_ms=((ms,),), cpu_ms=(), peak_rss_bytes=0)


def _conditions(target: Target) -> Conditions:
    return Conditions(
        device=target.name,
        cpu="estimated from peak rates",
        runtime="roofline",
        backend=target.backend,
        dtype=target.dtype,
        threads=target.threads,
        governor=None,
        frequency_mhz=None,
        temperature_c=None,
        load=0.0,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
