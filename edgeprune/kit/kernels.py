"""Kernels ⇄ programs that a device traces for us, and their times from what it wrote.

The programs are those that `profile` sends to a board it reaches. What comes back is told apart by
making each program again from its keys and comparing the hash, so that times are never taken for
those of other kernels.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from edgeprune.cost.flatbuffer import decode
from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.runs import WARM_UPS
from edgeprune.cost.wanted import Sweep
from edgeprune.cost.worker import Timer, batches, measured_outside, with_empties
from edgeprune.cost.xnnpack_program import build_program
from edgeprune.errors import DataError
from edgeprune.kit.packing import unpacked
from edgeprune.kit.records import Kit, KitKernels
from edgeprune.measuring.results import Result
from edgeprune.records import KernelKey, Progress

Times = tuple[KernelKey, tuple[float, ...]]

_SIZE_PREFIX = 4


def kernel_programs(
    sweeps: Sequence[Sweep], progress: Progress
) -> tuple[tuple[KitKernels, ...], dict[str, bytes]]:
    """The programs that execute all of `sweeps`, and their files by path in the kit.

    Ops that ExecuTorch's compiler cannot take by themselves are left out, as `profile` does.
    """
    recorder = _Recorder()
    outside: list[KernelKey] = []
    total = sum(len(sweep.keys) for sweep in sweeps)
    for sweep in sweeps:
        outside += [key for key in sweep.keys if key.op.startswith(PREFIX)]
        inside = [key for key in sweep.keys if not key.op.startswith(PREFIX)]
        for batch in batches(inside, sweep.batch_bytes):
            progress("kit", sum(len(p.keys) for p in recorder.programs), total, "kernels")
            recorder.delegated(batch)
    for _ in measured_outside(recorder, list(dict.fromkeys(outside))):
        pass
    return tuple(recorder.programs), recorder.files


def kernel_times(kit: Kit, result: Result, progress: Progress) -> Iterator[Times]:
    """(key, samples in µs) of every kernel that the device traced.

    Raises DataError where a trace is damaged, of a program that the kit does not hold, or of one
    that this edgeprune and executorch would not make from the same keys.
    """
    known = {kernels.sha256: kernels for kernels in kit.kernels}
    for i, traced in enumerate(result.kernels):
        kernels = known.get(traced.program)
        if kernels is None:
            raise DataError(
                f"the result holds a trace of a program ({traced.program[:12]}...) that its kit "
                "does not list: it was put together from several results"
            )
        progress("import", i, len(result.kernels), kernels.file)
        dump = unpacked(traced.etdump, f"the trace of {kernels.file}")
        keys = [key_from_json(text) for text in kernels.keys]
        timer = _Replayed(dump, kernels, kit)
        samples = timer.delegated(keys) if kernels.delegated else timer.portable(keys)
        for key, us in zip(keys, samples, strict=True):
            yield key, tuple(round(sample, 3) for sample in us)


class _Recorder(Timer):
    """Keeps programs instead of running them; times are empty."""

    def __init__(self) -> None:
        super().__init__(None, 0, 0.0)
        self.programs: list[KitKernels] = []
        self.files: dict[str, bytes] = {}

    def delegated(self, keys: Sequence[KernelKey]) -> list[list[float]]:
        """Keeps the program of kernels of the delegate."""
        self._keep(build_program(with_empties(keys)), keys, delegated=True)
        return [[] for _ in keys]

    def portable(self, keys: Sequence[KernelKey]) -> list[list[float]]:
        """Keeps the program of ops outside of it; raises what the compiler raises."""
        from edgeprune.cost.portable_program import portable_program

        self._keep(portable_program(keys).program, keys, delegated=False)
        return [[] for _ in keys]

    def _keep(self, program: bytes, keys: Sequence[KernelKey], *, delegated: bool) -> None:
        name = f"kernels/k{len(self.programs):03d}.pte"
        sha256 = hashlib.sha256(program).hexdigest()
        texts = tuple(key_to_json(key) for key in keys)
        self.programs.append(KitKernels(name, sha256, delegated, texts))
        self.files[name] = program


class _Replayed(Timer):
    """The worker's timer, for a program that somebody else has run already."""

    def __init__(self, dump: bytes, kernels: KitKernels, kit: Kit) -> None:
        super().__init__(None, 0, 0.0)
        self._dump = dump
        self._kernels = kernels
        self._kit = kit

    def _events(self, program: bytes, inputs: list[Any], seconds: float) -> list[dict[str, Any]]:
        if hashlib.sha256(program).hexdigest() != self._kernels.sha256:
            raise DataError(
                f"{self._kernels.file} of the kit is not the program that this edgeprune makes of "
                "the same kernels: import with what made the kit (edgeprune "
                f"{self._kit.edgeprune}, {self._kit.runtime}), or make a new kit"
            )
        try:
            runs = decode(self._schema, "ETDump", self._dump[_SIZE_PREFIX:])["run_data"]
        except (struct.error, KeyError, IndexError, ValueError, TypeError) as error:
            raise DataError(f"the trace of {self._kernels.file} is damaged: {error}") from error
        found: list[dict[str, Any]] = [run for run in runs if run["name"] == "Execute"]
        if len(found) <= WARM_UPS:
            raise DataError(
                f"the trace of {self._kernels.file} holds {len(found)} executions, and the first "
                f"{WARM_UPS} are warm-up: run the kit's script again"
            )
        return found[WARM_UPS:]
