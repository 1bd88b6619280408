"""fp32 graph → int8 graph, by the quantizer of the backend that will run it (torchao's PT2E flow).

https://docs.pytorch.org/ao/stable/tutorials_source/pt2e_quant_ptq.html: observers are put where the
backend's quantizer wants them, real samples are run, and observers become quantise/dequantise pairs
that the backend's partitioner knows. Weights are symmetric per channel, activations per tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeprune.errors import LoweringError
from edgeprune.lowering.backends import Backend, backend_for, ready_backend
from edgeprune.lowering.layout import in_channels_last
from edgeprune.quiet import quiet
from edgeprune.reasons import reason_of
from edgeprune.records import Graph, Target

if TYPE_CHECKING:
    from torch import Tensor, fx

INT8 = "int8"


def quantise(graph: Graph, target: Target, samples: Iterable[Tensor]) -> Graph:
    """`graph` in int8, calibrated on `samples` (batches of the graph's input), for int8 `target`.

    What comes back computes in simulated int8 what the target will compute, takes batches as the
    graph does, and is only good for evaluation and `lower`. The graph is not changed. Raises
    LoweringError where the backend has no quantizer, there is no sample, or upstream refuses.
    """
    batches = ((batch,) for batch in samples)
    made = simulated(graph.name, target, lambda backend: exported_again(graph, backend), batches)
    return replace(graph, program=made, masks={})


def simulated(
    name: str,
    target: Target,
    export: Callable[[Backend], Any],
    batches: Iterable[tuple[Tensor, ...]],
) -> fx.GraphModule:
    """The module that `export` makes for the backend of `target`, in simulated int8, calibrated on
    `batches` of its inputs. Raises as `quantise` does, for the network `name`."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    backend = ready_backend(target)
    if backend.quantizer is None or target.dtype != INT8:
        raise LoweringError(
            f"backend {backend.name!r} has no quantizer for dtype {target.dtype!r}: name a target "
            "that runs int8"
        )
    seen = 0
    with quiet(), torch.no_grad():
        try:
            prepared = prepare_pt2e(export(backend), backend.quantizer(target))
            for batch in batches:
                prepared(*batch)
                seen += 1
            converted = convert_pt2e(prepared) if seen else None
        except Exception as error:
            raise LoweringError(
                f"{name!r} could not be quantised for {backend.name}: {reason_of(error)}"
            ) from error
    if converted is None:
        raise LoweringError(f"{name!r}: int8 needs samples to be calibrated on, got none")
    return plain(converted)


def quantised_before(target: Target) -> bool:
    """Whether graphs are quantised before they are lowered for `target`: where it runs int8 and its
    backend does not see to that itself. Raises LoweringError for a backend that does not exist."""
    return target.dtype == INT8 and backend_for(target).quantizer is not None


def is_quantised(graph: Graph) -> bool:
    """Whether a graph computes in (simulated) int8."""
    return any("quantized_decomposed" in str(node.target) for node in graph.program.graph.nodes)


def exported_again(graph: Graph, backend: Backend) -> Any:
    """The graph exported in eval mode with its batch open where it can be, as a module, in the
    backend's layout."""
    import torch

    module = copy.deepcopy(graph.program)
    module.eval()
    inputs, shapes = graph.example_inputs, None
    if graph.dynamic_batch:
        inputs = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)
        shapes = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    if backend.programs.channels_last:
        module.to(memory_format=torch.channels_last)
        inputs = in_channels_last(inputs)
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    # guards are nodes that the quantizer does not know (pytorch/executorch #16248)
    return program.module(check_guards=False)


def plain(module: Any) -> fx.GraphModule:
    """The module without what torchao adds to forbid eval() and train() on exported ones."""
    from torch import fx

    found = fx.GraphModule(module, copy.deepcopy(module.graph))
    found.training = False
    return found
