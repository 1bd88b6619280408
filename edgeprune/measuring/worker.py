"""The process that programs run in: `python -m edgeprune.measuring.worker` < request.json.

The request is one JSON object on stdin; the answer is written to the file it names under
"result", because the runtime logs to stdout and stderr as it likes. An answer is either the
task's own or {"error": "..."}; a process that ends without one has crashed.

    {"task": "time", "programs": [path], "threads": n, "rounds": n, "min_block_ms": x,
     "warmup_ms": x, "seed": n}
        → {"programs": [{"wall_ms": [x], "cpu_ms": [x], "planned_inputs": bool, "settled": bool}],
           "peak_rss_bytes": n or null, "process_s": x,
           "before": {"temperature_c": x or null, "frequency_mhz": x or null}, "after": {...}}
    {"task": "execute", "program": path, "threads": n, "inputs": npz, "outputs": npz}
        → {}
    {"task": "describe", "program": path}
        → {"inputs": [[n]], "outputs": [[n]]}
    {"task": "check", "program": path of a bundled program, "threads": n, "cases": n, "rtol": x,
     "atol": x}
        → {"failing": [n]}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.measuring import loaded, machine, memory, timing
from edgeprune.measuring.batches import in_batches

Request = dict[str, Any]
Answer = dict[str, Any]

TASKS: dict[str, Callable[[Request], Answer]] = {}


def _task(function: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    TASKS[function.__name__.removeprefix("_")] = function
    return function


@_task
def _time(request: Request) -> Answer:
    """Samples of every program, and the memory that running all of them took."""
    memory.reset_peak()
    before = memory.resident_bytes()
    loaded.use_threads(request["threads"])
    programs = [loaded.load(Path(p), request["seed"]) for p in request["programs"]]
    executes = [program.execute for program in programs]
    executions = [timing.calibrated(e, request["min_block_ms"]) for e in executes]
    settled = [
        timing.warmed_up(e, n, request["warmup_ms"])
        for e, n in zip(executes, executions, strict=True)
    ]
    warm = machine.state()
    taken = timing.interleaved(executes, executions, request["rounds"])
    done = machine.state()
    after = memory.peak_bytes()
    one_thread = request["threads"] == 1
    return {
        "programs": [
            {
                "wall_ms": [block.wall_ms for block in blocks],
                # The runtime's other threads have CPU times of their own.
                "cpu_ms": [block.cpu_ms for block in blocks] if one_thread else [],
                "planned_inputs": program.planned_inputs,
                "settled": calm,
            }
            for program, blocks, calm in zip(programs, taken, settled, strict=True)
        ],
        "peak_rss_bytes": None if before is None or after is None else max(0, after - before),
        "process_s": time.process_time(),
        "before": warm,
        "after": done,
    }


@_task
def _execute(request: Request) -> Answer:
    """A program's outputs on real inputs, from one .npz to another."""
    import torch

    loaded.use_threads(request["threads"])
    program = loaded.load(Path(request["program"]), seed=0)
    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = [file[f"x{i}"] for i in range(len(file.files))]
    wanted = [tuple(x.shape) for x in program.inputs]
    given = [x.shape for x in inputs]
    if len(wanted) != len(given) or any(
        not w or w[1:] != g[1:] for w, g in zip(wanted, given, strict=True)
    ):
        raise loaded.CannotLoad(f"the program takes inputs {wanted} (batch first), not {given}")
    dtypes = [x.dtype for x in program.inputs]

    def call(batch: list[Any]) -> list[Any]:
        tensors = [torch.from_numpy(x).to(t) for x, t in zip(batch, dtypes, strict=True)]
        return [y.numpy() for y in program.call(tensors)]

    outputs = in_batches(call, inputs, wanted[0][0])
    arrays: dict[str, Any] = {f"y{i}": y for i, y in enumerate(outputs)}
    np.savez(request["outputs"], **arrays)
    return {}


@_task
def _describe(request: Request) -> Answer:
    """The shapes that a program declares; its delegates are not loaded, so any program will do."""
    return loaded.shapes(Path(request["program"]))


@_task
def _check(request: Request) -> Answer:
    """The cases of a bundled program whose outputs here are not those that it carries."""
    loaded.use_threads(request["threads"])
    within = request["rtol"], request["atol"]
    return {"failing": loaded.failing(Path(request["program"]), request["cases"], *within)}


def main() -> None:
    """Do what stdin asks and write the answer. Anything unforeseen ends with a traceback."""
    request: Request = json.load(sys.stdin)
    try:
        answer = TASKS[request["task"]](request)
    except (loaded.CannotLoad, ValueError) as error:
        answer = {"error": str(error)}
    Path(request["result"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
