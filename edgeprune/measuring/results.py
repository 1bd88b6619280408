"""The one JSON format of what was timed anywhere: by `edgeprune measure`, by a kit, by an app.

    {"format": "edgeprune-bench/1", "runner": "...", "device": "...", "threads": n,
     "programs": [{"name": "model.pte", "sha256": "..."}],
     "processes": [{"programs": [{"wall_ms": [x, ...]}, ...], ...}, ...], ...}

`processes` are what runners answer (targets/linux/README.md), programs in the order of the list
above. Everything else may be missing: what is not known is not made up. docs/result-schema.md
describes every key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeprune.errors import DataError, OutputError
from edgeprune.output import write_whole
from edgeprune.records import Measurement

FORMAT = "edgeprune-bench/1"
_MOST_TOLD = 8


@dataclass(frozen=True)
class State:
    """Temperature and clock at one time; None where they cannot be read."""

    temperature_c: float | None = None
    frequency_mhz: float | None = None


@dataclass(frozen=True)
class Machine:
    """The processor as the runner saw it."""

    cpu: str
    architecture: str = ""
    governor: str | None = None
    load: float | None = None
    date: str = ""


@dataclass(frozen=True)
class ProgramRun:
    """One program's samples in one process, milliseconds of one execution."""

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...] = ()
    planned_inputs: bool = False
    settled: bool = True


@dataclass(frozen=True)
class Process:
    """What one process answered: its programs took turns."""

    programs: tuple[ProgramRun, ...]
    runtime: str = ""
    machine: Machine | None = None
    before: State = field(default_factory=State)
    after: State = field(default_factory=State)
    peak_rss_bytes: float | None = None
    throttled: bool | None = None
    cooled_s: float | None = None


@dataclass(frozen=True)
class Named:
    """A program that was run."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Outputs:
    """What a program (by its hash) computed from the kit's inputs: raw bytes, gzip, base64."""

    program: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Traced:
    """What the event tracer wrote of a program of kernels: an ETDump, gzip, base64."""

    program: str
    etdump: str
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A result as read from its file. `kit` is the kit.json that came with the programs."""

    runner: str
    device: str
    threads: int
    programs: tuple[Named, ...]
    processes: tuple[Process, ...]
    format: str = FORMAT
    cpus: str = ""
    soc: str = ""
    system: str = ""
    alone: tuple[Process, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[Outputs, ...] = ()
    kernels: tuple[Traced, ...] = ()
    kit: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


_RESULT = TypeAdapter(Result)


def read_result(path: Path) -> Result:
    """The result in `path`, checked as a whole.

    Raises OutputError where it cannot be read, DataError with all that is wrong in it: a format
    that is not ours, keys that are missing, processes that do not hold every program.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); was the run cut short?") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{path} is no result of a measurement: its format is {found!r}, not {FORMAT!r}; a "
            "kit's script or `edgeprune measure --result` writes one"
        )
    try:
        result = _RESULT.validate_json(text)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DataError(_refused(path, told)) from error
    problems = _problems(result)
    if problems:
        raise DataError(_refused(path, problems))
    return result


def write_result(path: Path, measured: Sequence[Measurement], hashes: Sequence[str]) -> None:
    """Writes measurements of one `compare` in the format that devices answer in.

    `hashes` are the programs' SHA-256. Raises OutputError where it cannot be written.
    """
    text = json.dumps(_document(measured, hashes), indent=1) + "\n"
    write_whole(path, text)


def _problems(result: Result) -> list[str]:
    """What is wrong with a result whose every key is of its type."""
    found = []
    count = len(result.programs)
    for where, processes in (("processes", result.processes), ("alone", result.alone)):
        for i, process in enumerate(processes):
            wanted = count if where == "processes" else 1
            if len(process.programs) != wanted:
                found.append(f"{where}[{i}] holds {len(process.programs)} programs, not {wanted}")
            for j, run in enumerate(process.programs):
                at = f"{where}[{i}].programs[{j}]"
                if not run.wall_ms or not min(run.wall_ms) > 0:
                    found.append(f"{at}.wall_ms: no samples, or some that are not above zero")
                if run.cpu_ms and len(run.cpu_ms) != len(run.wall_ms):
                    found.append(f"{at}: as many cpu_ms as wall_ms, or none")
    if count and not result.processes:
        found.append("processes: none")
    rounds = {len(run.wall_ms) for process in result.processes for run in process.programs}
    if len(rounds) > 1:
        found.append(f"processes: as many samples of every program, not {sorted(rounds)}")
    if result.alone and len(result.alone) != count:
        found.append(f"alone: one for each program, not {len(result.alone)}")
    return found


def _refused(path: Path, problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return f"{path} cannot be used: {'; '.join(problems[:_MOST_TOLD])}{more}"


def _document(measured: Sequence[Measurement], hashes: Sequence[str]) -> dict[str, Any]:
    first = measured[0]
    conditions = first.conditions
    state = asdict(State(conditions.temperature_c, conditions.frequency_mhz))
    common = {
        "runtime": conditions.runtime,
        "machine": asdict(
            Machine(conditions.cpu, "", conditions.governor, conditions.load, conditions.date)
        ),
        "after": state,
    }

    def part(samples: Sequence[float], one: Measurement, process: int) -> list[float]:
        rounds = len(samples) // one.processes
        return list(samples[process * rounds : (process + 1) * rounds])

    def runs(process: int) -> list[dict[str, Any]]:
        return [
            {"wall_ms": part(m.samples_ms, m, process), "cpu_ms": part(m.cpu_ms, m, process)}
            for m in measured
        ]

    processes = [{**common, "programs": runs(i)} for i in range(first.processes)]
    alone = [
        {**common, "programs": [run], "peak_rss_bytes": one.peak_rss_bytes or None}
        for one, run in zip(measured, runs(0), strict=True)
    ]
    return {
        "format": FORMAT,
        "runner": "edgeprune measure",
        "device": conditions.device,
        "threads": conditions.threads,
        "programs": [
            {"name": one.path.name, "sha256": sha256}
            for one, sha256 in zip(measured, hashes, strict=True)
        ],
        "processes": processes,
        "alone": alone,
        "warnings": list(dict.fromkeys(text for one in measured for text in one.warnings)),
    }
