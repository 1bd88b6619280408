"""Where kernels are executed: on this host, or on a device that traces programs for us."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.flatbuffer import decode
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.sampler import Effort, refusal, sample
from edgeprune.cost.worker import Timer, batches, measured_outside
from edgeprune.records import Conditions, KernelKey, Progress, Target

Samples = Iterator[tuple[KernelKey, tuple[float, ...]]]
Trace = Callable[[bytes, int], bytes]
"""Executes a program so many times on random inputs; what the event tracer wrote of it."""

# By number only: how long an execution takes there is not known before.
WARM_UPS = 5
_SIZE_PREFIX = 4


class KernelRuns(Protocol):
    """Executes kernels somewhere and says under which conditions."""

    def conditions(self) -> Conditions:
        """What a measurement there is taken under, now."""
        ...

    def sample(self, keys: Sequence[KernelKey], effort: Effort, progress: Progress) -> Samples:
        """(key, samples in µs) of each kernel as it comes; see `sampler.sample`."""
        ...


class HostRuns:
    """This host, in a process of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def conditions(self) -> Conditions:
        """This host, now."""
        return host_conditions(self._target.backend, self._target.dtype, self._target.threads)

    def sample(self, keys: Sequence[KernelKey], effort: Effort, progress: Progress) -> Samples:
        """See `sampler.sample`."""
        return sample(keys, self._target.threads, effort, progress=progress)


class TracedRuns:
    """A device that executes programs under the event tracer: what `trace` gives back is read here.

    Ops outside the delegate that ExecuTorch's compiler cannot take by itself are warned about and
    left out.
    """

    def __init__(self, trace: Trace, conditions: Callable[[], Conditions]) -> None:
        self._trace = trace
        self.conditions = conditions

    def sample(self, keys: Sequence[KernelKey], effort: Effort, progress: Progress) -> Samples:
        """All kernels of a batch in one program, which is sent, executed and its trace read."""
        timer = _TracedTimer(self._trace, effort.rounds)
        inside = [key for key in keys if not key.op.startswith(PREFIX)]
        done = 0
        for batch in batches(inside, effort.batch_bytes):
            progress("measuring kernels", done, len(keys), "on the device")
            for key, samples in zip(batch, timer.delegated(batch), strict=True):
                yield key, tuple(samples)
            done += len(batch)
        progress("measuring kernels", done, len(keys), "on the device")
        for key, us, refused in measured_outside(
            timer, [k for k in keys if k.op.startswith(PREFIX)]
        ):
            if refused is not None:
                warnings.warn(refusal(key, refused), stacklevel=2)
            else:
                yield key, tuple(us)
        progress("measuring kernels", len(keys), len(keys))


class _TracedTimer(Timer):
    """The worker's timer, for a runtime that is elsewhere."""

    def __init__(self, trace: Trace, rounds: int) -> None:
        super().__init__(None, rounds, 0.0)
        self._trace = trace

    def _events(self, program: bytes, inputs: list[Any], seconds: float) -> list[dict[str, Any]]:
        dump = self._trace(program, self._rounds + WARM_UPS)
        runs = decode(self._schema, "ETDump", dump[_SIZE_PREFIX:])["run_data"]
        return [run for run in runs if run["name"] == "Execute"][WARM_UPS:]
