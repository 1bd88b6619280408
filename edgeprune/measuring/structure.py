"""What can be checked of a program that this machine's runtime cannot run."""

from __future__ import annotations

import copy

from edgeprune.errors import MeasureError
from edgeprune.measuring.latency import Program, path_of
from edgeprune.measuring.process import run_worker
from edgeprune.measuring.pte import check_program
from edgeprune.records import Graph

_TIMEOUT_S = 600.0


def check_structure(graph: Graph, program: Program) -> None:
    """Raises MeasureError unless the program can be read and takes and gives what `graph` does.

    Its file is verified and the shapes of its inputs and outputs are compared; nothing is run.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    path = check_program(path_of(program))
    declared = run_worker({"task": "describe", "program": str(path)}, path.name, _TIMEOUT_S)
    module = copy.deepcopy(graph.program)  # it may be in training
    module.eval()
    with torch.no_grad():
        made = tree_leaves(module(*graph.example_inputs))
    wanted = {
        "inputs": [list(x.shape) for x in graph.example_inputs],
        "outputs": [list(y.shape) for y in made if isinstance(y, torch.Tensor)],
    }
    if declared != wanted:
        raise MeasureError(
            f"{path.name} is not {graph.name!r}: it declares {declared}, the network has {wanted}"
        )
