"""The programs of a kit: found, checked, and run here to know what the device should compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import MeasureError, OutputError, TargetError
from edgeprune.kit.packing import packed
from edgeprune.measuring import execute
from edgeprune.measuring.pte import check_program
from edgeprune.records import Manifest, Port, Target
from edgeprune.shipping import Told, describe, in_memory, read_manifest

RUN_PROGRAMS = ("baseline.pte", "model.pte")
"""What a fit's directory holds."""

XNNPACK = "xnnpack"
"""The backend that every runtime here has."""

_BATCHES = 4
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Program:
    """A program to be packed, under its name in the kit."""

    path: Path
    name: str
    manifest: Manifest


def find_programs(asked: Sequence[Path], target: Target) -> list[Program]:
    """The programs of runs and files, baseline before pruned.

    Raises OutputError where a run has none or two have one name, MeasureError where a file is no
    program, TargetError where one was lowered for another backend than the target's.
    """
    paths: list[Path] = []
    for path in asked:
        if not path.is_dir():
            paths.append(path)
            continue
        missing = [name for name in RUN_PROGRAMS if not (path / name).is_file()]
        if missing:
            raise OutputError(
                f"{path} has no {' and no '.join(missing)}: name the directory of a finished "
                "`edgeprune fit`, or .pte files"
            )
        paths += [path / name for name in RUN_PROGRAMS]
    names = [path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OutputError(f"a kit holds one program of a name, and {', '.join(twice)} comes twice")
    found = [Program(check_program(path), path.name, _manifest(path, target)) for path in paths]
    for program in found:
        if program.manifest.backend != target.backend:
            raise TargetError(
                f"{program.name} was lowered for {program.manifest.backend!r}, and target "
                f"{target.name!r} runs {target.backend!r}: lower it for that target"
            )
    return found


def _manifest(path: Path, target: Target) -> Manifest:
    return read_manifest(path) or describe(path, target, Told(path.stem))


def shared_inputs(programs: Sequence[Program]) -> list[NDArray[Any]]:
    """Seeded inputs for all of them, (N, ...) as they lie in memory; empty where they differ in
    what they take, or take what cannot be made up."""
    ports = {_taken(program.manifest.inputs) for program in programs}
    if len(ports) != 1:
        return []
    rng = np.random.default_rng(0)
    made = []
    for port in programs[0].manifest.inputs:
        if not port.shape:
            return []
        values = rng.standard_normal((_BATCHES * port.shape[0], *port.shape[1:]))
        whole = not port.dtype.startswith("float")
        # 0 and 1 are valid whatever whole numbers mean: tokens, indices, masks, pixels.
        typed = (values > 0 if whole else values).astype(port.dtype)
        made.append(in_memory(typed, port.layout))
    return made


def _taken(ports: Sequence[Port]) -> tuple[tuple[tuple[int, ...], str, str], ...]:
    return tuple((port.shape, port.dtype, port.layout) for port in ports)


def expected_outputs(program: Program, inputs: Sequence[NDArray[Any]]) -> tuple[str, ...]:
    """What the program computes here, packed; empty where it cannot run here or gives too much."""
    if not inputs:
        return ()
    try:
        outputs = execute(program.path, inputs)
    except MeasureError:
        if program.manifest.backend == XNNPACK:
            raise
        return ()  # the runtime here has no such backend, or lacks what it needs
    if sum(y.nbytes for y in outputs) > _MOST_BYTES:
        return ()
    return tuple(packed(np.ascontiguousarray(y).tobytes()) for y in outputs)
