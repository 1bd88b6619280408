"""Run a program on real inputs, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.measuring.batches import Array
from edgeprune.measuring.latency import Program, path_of
from edgeprune.measuring.process import run_worker
from edgeprune.measuring.pte import check_program

_TIMEOUT_S = 1800.0


def execute(program: Program, inputs: Sequence[Array], threads: int = 1) -> list[Array]:
    """The program's outputs on this machine, each (N, ...), for inputs each (N, ...).

    N may be any number: programs have a fixed batch, so they run as often as it takes. Raises
    MeasureError where the program cannot be run or takes other inputs.
    """
    path = check_program(path_of(program))
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        given, made = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        arrays: dict[str, Any] = {f"x{i}": x for i, x in enumerate(inputs)}
        np.savez(given, **arrays)
        request = {
            "task": "execute",
            "program": str(path),
            "threads": threads,
            "inputs": str(given),
            "outputs": str(made),
        }
        run_worker(request, path.name, _TIMEOUT_S)
        with np.load(made, allow_pickle=False) as file:
            return [file[f"y{i}"] for i in range(len(file.files))]
