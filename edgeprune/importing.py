"""`report --import`: what a device said → the run's report and the cost table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.closed_loop import judge
from edgeprune.cost.table import CostTable
from edgeprune.errors import DataError
from edgeprune.kit.kernels import Times, kernel_times
from edgeprune.kit.packing import unpacked
from edgeprune.kit.programs import RUN_PROGRAMS
from edgeprune.kit.records import Kit, kit_of
from edgeprune.measuring import speedup
from edgeprune.measuring.agreement import agreement
from edgeprune.measuring.bundle import digest_of
from edgeprune.measuring.results import Process, Result
from edgeprune.measuring.telling import Device, conditions_of, measured_there
from edgeprune.records import (
    Budget,
    Conditions,
    OnDevice,
    Parity,
    Port,
    Progress,
    Verdict,
    silent,
)
from edgeprune.report import add_device, read_report
from edgeprune.shipping import ports_of

_SHORT = 12


@dataclass(frozen=True)
class Tabled:
    """What went into the cost table: kernels, their samples, and what they were taken under."""

    kernels: int
    samples: int
    conditions: Conditions


def import_into_report(result: Result, run: Path) -> OnDevice:
    """Folds a device's times into the report of the run in `run`, and says what they are.

    The programs are known by their hashes. Raises DataError where the result is not of both of the
    run's programs, OutputError where there is no report.
    """
    document = read_report(run)
    places = [_place(result, run / name, run) for name in RUN_PROGRAMS]
    target = document["target"]
    kit = None if result.kit is None else kit_of(result.kit)
    # Without a kit the result does not say which target it is for.
    name = result.device if kit is None else kit.target
    measured = measured_there(result, Device(name, target["backend"], target["dtype"]))
    before, after = (measured[place] for place in places)
    wanted = {key: document["budget"][key] for key in ("latency_ms", "speedup", "size_bytes")}
    judged: tuple[Verdict | None, tuple[str, ...]] = (None, ())
    if any(value is not None for value in wanted.values()):
        size = document["final"]["size_bytes"]
        judged = judge(before, after, size, Budget(**wanted))
    ratio, interval = speedup(before, after)
    found = OnDevice(
        name=name,
        device=result.device,
        system=result.system,
        runner=result.runner,
        baseline=before,
        final=after,
        speedup=ratio,
        speedup_interval=interval,
        verdict=judged[0],
        reasons=judged[1],
        parity=None if kit is None else _parity(result, kit, run / RUN_PROGRAMS[1]),
    )
    add_device(run, found)
    return found


def import_into_table(result: Result, table: Path, progress: Progress = silent) -> Tabled:
    """Adds the times of the kernels that the result holds to the cost table at `table`.

    They are kept under the kit's target: a profile of that name with `runner = "kit"` plans with
    them. Raises DataError where the result holds none, or damaged ones, before anything is added.
    """
    if result.kit is None or not result.kernels:
        raise DataError(
            "the result holds no kernels' times: make the kit with `edgeprune kit --profile MODEL`,"
            " and run it with the C++ runner"
        )
    kit = kit_of(result.kit)
    process = _answered(result)
    device = Device(kit.target, kit.backend, kit.dtype)
    traced = Result(result.runner, result.device, result.threads, (), (process,), soc=result.soc)
    conditions = conditions_of(traced, device)
    times: Sequence[Times] = list(kernel_times(kit, result, progress))
    CostTable(table).add(times, conditions)
    return Tabled(len({key for key, _ in times}), sum(len(us) for _, us in times), conditions)


def _answered(result: Result) -> Process:
    """What the runner said of the device when it traced its first kernels."""
    from pydantic import TypeAdapter, ValidationError

    answer = {**result.kernels[0].answer, "programs": []}
    try:
        return TypeAdapter(Process).validate_python(answer)
    except ValidationError as error:
        raise DataError(f"the answer to the kernels' trace cannot be used: {error}") from error


def _place(result: Result, program: Path, run: Path) -> int:
    """Where in the result the program of the run is."""
    if not program.is_file():
        raise DataError(f"{run} has no {program.name}, which the result is to be compared with")
    sha256 = digest_of(program)
    for i, held in enumerate(result.programs):
        if held.sha256 == sha256:
            return i
    told = ", ".join(f"{held.name} {held.sha256[:_SHORT]}" for held in result.programs)
    raise DataError(
        f"the result is of other programs than those in {run}: {program.name} there is "
        f"{sha256[:_SHORT]}, and the result holds {told or 'none'}. Import it into the run that "
        f"the kit was made of, or make a new kit of this one: edgeprune kit kit.zip {run}"
    )


def _parity(result: Result, kit: Kit, program: Path) -> Parity | None:
    """The final program's outputs there against those where the kit was made."""
    sha256 = digest_of(program)
    there = next((o.outputs for o in result.outputs if o.program == sha256), ())
    here = next((p.expected for p in kit.programs if p.sha256 == sha256), ())
    if not there or len(there) != len(here):
        return None
    _, outputs = ports_of(program)
    pairs = [
        (_values(a, port, "expected"), _values(b, port, "computed there"))
        for a, b, port in zip(here, there, outputs, strict=True)
    ]
    return agreement([a for a, _ in pairs], [b for _, b in pairs])


def _values(text: str, port: Port, what: str) -> NDArray[Any]:
    """An output, (N, ...) of the program's own shape."""
    data = unpacked(text, f"the output {port.name} ({what})")
    whole = math.prod(port.shape) * np.dtype(port.dtype).itemsize
    if not data or len(data) % whole:
        raise DataError(f"the output {port.name} ({what}) has {len(data)} bytes, not n * {whole}")
    return np.frombuffer(data, port.dtype).reshape(-1, *port.shape[1:])
