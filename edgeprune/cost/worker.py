"""The process that executes kernels and times them: `python -m edgeprune.cost.worker`.

It reads one JSON request on stdin (the fields of `sampler.Effort`, "threads" and "keys") and writes
a JSON line {"key", "samples_us", "refused"} per kernel on stdout as batches are done. A kernel that
crashes the runtime takes only this process with it.

Times come from ExecuTorch's event tracer: a delegate call's duration less that of an empty one.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeprune.cost.flatbuffer import decode, read_schema
from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.cost.pte_parts import runtime_package
from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.xnnpack_nodes import kernel_graph
from edgeprune.cost.xnnpack_program import build_program, schedule
from edgeprune.records import KernelKey

EMPTY = KernelKey("delegate_call", ((1,),))
_BATCH_KERNELS = 120
_WARM_UPS = 2
_WARM_UP_SECONDS = 0.1
_FEWEST_ROUNDS = 5
# What no clock resolves and no kernel beats.
_FLOOR_US = 0.02


def main() -> None:
    """Answers the request on stdin."""
    request = json.load(sys.stdin)
    # The runtime's C++ logs to stdout at times; only we may write to the real one.
    results = os.fdopen(os.dup(1), "w", buffering=1)  # a line at a time
    os.dup2(2, 1)
    import torch  # noqa: F401  (its libraries must be loaded before the runtime's)

    # What `portable_lib` wraps; the wrapper imports the whole compiler, which takes seconds.
    from executorch.extension.pybindings import _C as runtime

    runtime._unsafe_reset_threadpool(request["threads"])
    keys = [key_from_json(text) for text in request["keys"]]
    timed = Timer(runtime, request["rounds"], request["seconds"] / max(1, len(keys)))
    inside = [key for key in keys if not key.op.startswith(PREFIX)]
    for batch in batches(inside, request["batch_bytes"]):
        for key, us in zip(batch, timed.delegated(batch), strict=True):
            results.write(_answer(key, us))
    outside = [key for key in keys if key.op.startswith(PREFIX)]
    for key, samples, refused in measured_outside(timed, outside):
        results.write(_answer(key, samples, refused))


def measured_outside(
    timed: Timer, keys: Sequence[KernelKey]
) -> Iterator[tuple[KernelKey, Sequence[float], str | None]]:
    """Ops outside the delegate, compiled together; where the compiler refuses, in halves."""
    if not keys:
        return
    try:
        measured = timed.portable(keys)
    except Exception as error:  # the compiler refuses an op with whatever it likes
        if len(keys) == 1:
            yield keys[0], (), f"{type(error).__name__}: {error}"
            return
        middle = len(keys) // 2
        yield from measured_outside(timed, keys[:middle])
        yield from measured_outside(timed, keys[middle:])
        return
    for key, samples in zip(keys, measured, strict=True):
        yield key, samples, None


def _answer(key: KernelKey, samples: Sequence[float], refused: str | None = None) -> str:
    times = [round(sample, 3) for sample in samples]
    return json.dumps({"key": key_to_json(key), "samples_us": times, "refused": refused}) + "\n"


def batches(keys: Sequence[KernelKey], most_bytes: int) -> Iterator[list[KernelKey]]:
    """Kernels that run in one program, by the bytes of their weights."""
    batch: list[KernelKey] = []
    held = 0
    for key in keys:
        size = sum(c["size"] for c in kernel_graph(key).constants)
        if batch and (len(batch) >= _BATCH_KERNELS or held + size > most_bytes):
            yield batch
            batch, held = [], 0
        batch.append(key)
        held += size
    if batch:
        yield batch


def with_empties(keys: Sequence[KernelKey]) -> list[KernelKey]:
    """What a program of `keys` executes: empty calls at both ends and in the middle tell what
    entering and leaving the delegate costs."""
    middle = len(keys) // 2
    return [EMPTY, *keys[:middle], EMPTY, *keys[middle:], EMPTY]


class Timer:
    """Runs programs round by round and reads the event tracer."""

    def __init__(self, runtime: Any, rounds: int, seconds_per_kernel: float) -> None:
        self._runtime = runtime
        self._rounds = rounds
        self._seconds = seconds_per_kernel
        self._schema = read_schema(
            runtime_package() / "devtools" / "etdump" / "etdump_schema_flatcc.fbs"
        )

    def delegated(self, keys: Sequence[KernelKey]) -> list[list[float]]:
        """Samples in µs for each key, all kernels interleaved round by round."""
        everything = with_empties(keys)
        empties = (0, len(keys) // 2 + 1, len(everything) - 1)
        order = schedule(everything)
        first = {kernel: call for call, kernel in reversed(list(enumerate(order)))}
        last = {kernel: call for call, kernel in enumerate(order)}
        runs = self._events(build_program(everything), [], self._seconds * len(keys))
        times = [_durations(run, "DELEGATE_CALL") for run in runs]
        once = statistics.median(run[first[i]] for run in times for i in empties)
        again = statistics.median(run[last[i]] for run in times for i in empties)
        samples = []
        for i, key in enumerate(everything):
            if i in empties:
                continue
            if key == EMPTY:
                samples.append([run[first[i]] for run in times])
                continue
            entering = once if first[i] == last[i] else again
            samples.append([max(run[last[i]] - entering, _FLOOR_US) for run in times])
        return samples

    def portable(self, keys: Sequence[KernelKey]) -> list[list[float]]:
        """Samples in µs of each op outside the delegate: all kernels it becomes, together."""
        from edgeprune.cost.portable_program import portable_program

        made = portable_program(keys)
        runs = self._events(made.program, list(made.inputs), self._seconds * len(keys))
        samples: list[list[float]] = [[] for _ in keys]
        for run in runs:
            times = _durations(run, "OPERATOR_CALL")
            for i, mine in enumerate(samples):
                own = sum(us for at, us in times.items() if made.owners[at] == i)
                mine.append(max(own, _FLOOR_US))
        return samples

    def _events(self, program: bytes, inputs: list[Any], seconds: float) -> list[dict[str, Any]]:
        """The runs recorded by the event tracer, warm-ups left out."""
        # The runtime does not keep the buffer alive (pytorch/executorch#10725): `program` must
        # outlive `loaded`, and does.
        loaded = self._runtime._load_for_executorch_from_buffer(program, enable_etdump=True)
        started = time.perf_counter()
        warm_ups = 0
        # By time too: threads that have just woken share a processor for some tens of milliseconds.
        while warm_ups < _WARM_UPS or time.perf_counter() - started < _WARM_UP_SECONDS:
            loaded.forward(inputs)
            warm_ups += 1
        started = time.perf_counter()
        for round_ in range(self._rounds):
            if round_ >= _FEWEST_ROUNDS and time.perf_counter() - started > seconds:
                break
            loaded.forward(inputs)
        with tempfile.TemporaryDirectory() as folder:
            dump = Path(folder) / "events.etdp"
            loaded.write_etdump_result_to_file(str(dump))
            data = dump.read_bytes()
        # Four bytes of size come before the flatbuffer itself.
        runs = decode(self._schema, "ETDump", data[4:])["run_data"]
        return [run for run in runs if run["name"] == "Execute"][warm_ups:]


def _durations(run: dict[str, Any], name: str) -> dict[int, float]:
    """µs by instruction of the events called `name` (the tracer counts nanoseconds)."""
    events = (event["profile_event"] for event in run["events"] if "profile_event" in event)
    return {
        event.get("instruction_id", -1): (event["end_time"] - event["start_time"]) / 1000
        for event in events
        if event.get("name") == name
    }


if __name__ == "__main__":
    main()
