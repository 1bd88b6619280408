"""Every backend that needs no vendor's SDK: python benchmarks/backends/run.py OUT [model ...]

Each row is one network lowered twice in one data type; rows are kept in OUT (a file of JSON lines)
and not made again. A backend whose extra is not installed is left out: run it once more in the
environment that has it, with the same OUT. Prints the table of all rows as Markdown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torchvision

from edgeprune import capture
from edgeprune.cost.conditions import cpu_model
from edgeprune.errors import EdgepruneError
from edgeprune.lowering import lower, quantise, quantised_before
from edgeprune.lowering.backends import Backend, all_backends, is_installed
from edgeprune.measuring import check_structure, parity
from edgeprune.records import Graph, Target, Vela

MODELS = ("mobilenet_v2", "resnet18")
CORE, VELA = "cortex-m55", Vela("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Sram_Only")
SAMPLES, CALIBRATION = 8, 4
NEEDED = {"openvino": "openvino", "ethos-u": "ethos-u-vela", "coreml": "coremltools"}


def network(name: str) -> Graph:
    """torchvision's with random weights (drawn once, seed 0) and statistics of random images."""
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, 3, 224, 224))
    return capture(module.eval(), (torch.zeros(1, 3, 224, 224),), name=name)


def rows(asked: argparse.Namespace, known: set[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    """A row for each (model, backend, dtype) that is not known and can be made here."""
    for name in asked.models:
        graph = None
        for backend in all_backends():
            if asked.only not in (None, backend.name):
                continue
            if backend.needs is not None and not is_installed(backend.needs):
                continue
            for dtype in backend.dtypes:
                if (name, backend.name, dtype) not in known:
                    graph = graph or network(name)
                    yield {"model": name, **row(graph, backend, dtype), **circumstances(backend)}


def row(graph: Graph, backend: Backend, dtype: str) -> dict[str, Any]:
    """One network lowered twice, run or checked."""
    target = Target(
        backend.name, "", backend.name, "none", dtype, 1, "estimated", vela=VELA, core=CORE
    )
    found: dict[str, Any] = {"backend": backend.name, "dtype": dtype}
    noise = np.random.default_rng(0).standard_normal((SAMPLES, 3, 224, 224), np.float32)
    try:
        if quantised_before(target):
            batches = torch.from_numpy(noise)[:CALIBRATION].split(2)
            graph = quantise(graph, target, batches)
        with tempfile.TemporaryDirectory() as folder:
            started, cpu = time.perf_counter(), time.process_time()
            made = lower(graph, target, Path(folder) / "first.pte")
            found["seconds"], found["cpu_s"] = (
                time.perf_counter() - started,
                time.process_time() - cpu,
            )
            again = lower(graph, target, Path(folder) / "second.pte")
            found |= {
                "bytes": made.size_bytes,
                "inside": made.delegated_nodes,
                "outside": dict(made.other_ops),
                "arena_bytes": made.planned_bytes,
                "same": made.sha256 == again.sha256,
            }
            if backend.programs.run_here:
                agreed = parity(graph, made, [noise])
                found["parity"] = [agreed.max_rel, agreed.top1_agreement]
            else:
                check_structure(graph, made)
    except EdgepruneError as error:
        found["failed"] = str(error)
    return found


def circumstances(backend: Backend) -> dict[str, Any]:
    """What the row was made under."""
    own = NEEDED.get(backend.name)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "load": round(psutil.getloadavg()[0], 1),
        "versions": {
            name: version(name)
            for name in ("torch", "executorch", "torchvision", *([own] if own else []))
        },
    }


def markdown(found: list[dict[str, Any]]) -> str:
    """The table, and what was taken under."""
    versions = sorted({f"{n} {v}" for one in found for n, v in one["versions"].items()})
    loads = [one["load"] for one in found]
    lines = [
        "# Backends\n",
        "Printed by `benchmarks/backends/run.py`. torchvision's networks at 1x3x224x224, random "
        "weights; int8 is",
        f"calibrated on {CALIBRATION} random images. *outside*: operators that the backend does "
        "not take, which run in",
        "ExecuTorch's own kernels. *arena*: memory planned beside the delegate's own. *s*: wall "
        "seconds of one lowering",
        "(CPU seconds of the process), export included, quantising not. *parity*: largest "
        "difference from eager (from",
        "simulated int8) over the largest output, and equal top-1, on "
        f"{SAMPLES} random images. *same bytes*: of two lowerings.",
        "Programs that this machine's runtime cannot run were verified and have the network's "
        "inputs and outputs.\n",
        f"{', '.join(sorted({one['cpu'] for one in found}))}; {', '.join(versions)}; "
        f"{min(one['date'] for one in found)[:10]}. The machine was shared (load "
        f"{min(loads)} to {max(loads)} on {psutil.cpu_count()} cores): seconds are one sample "
        "each.\n",
        "| model | backend | dtype | MB | inside | outside | arena, kB | s (CPU) | parity | same "
        "bytes |",
        "|---|---|---|--:|--:|--:|--:|--:|---|---|",
    ]
    for one in sorted(found, key=lambda x: (x["model"], x["backend"], x["dtype"])):
        lead = f"| {one['model']} | {one['backend']} | {one['dtype']} |"
        if "failed" in one:
            lines.append(f"{lead} failed: {one['failed']} |||||||")
            continue
        outside = sum(one["outside"].values())
        agreed = one.get("parity")
        lines.append(
            f"{lead} {one['bytes'] / 1e6:.2f} | {one['inside']} | {outside} | "
            f"{one['arena_bytes'] / 1000:.0f} | {one['seconds']:.0f} ({one['cpu_s']:.0f}) | "
            f"{'not run here' if agreed is None else f'{agreed[0]:.1e}, {agreed[1]:.0%}'} | "
            f"{'yes' if one['same'] else 'no'} |"
        )
    others = {
        (one["backend"], one["dtype"]): ", ".join(sorted(one["outside"]))
        for one in found
        if one.get("outside")
    }
    if others:
        lines.append("\nOutside:\n")
        lines += [f"- {b} {d}: {names}" for (b, d), names in sorted(others.items())]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--show", action="store_true", help="print what is kept, make nothing")
    parser.add_argument("--only", metavar="BACKEND", help="one backend instead of all")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    if asked.out.exists():
        found = [json.loads(line) for line in asked.out.read_text().splitlines()]
    known = {(one["model"], one["backend"], one["dtype"]) for one in found}
    for made in () if asked.show else rows(asked, known):
        found.append(made)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(made) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
