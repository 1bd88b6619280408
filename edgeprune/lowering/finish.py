"""The last steps every backend shares: count what was delegated, plan memory, serialise."""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgeprune.lowering.backends import Lowered

if TYPE_CHECKING:
    from executorch.exir import EdgeProgramManager


def finish(edge: EdgeProgramManager) -> Lowered:
    """An edge program after delegation → the bytes of its .pte.

    Inputs are left unplanned: the runtime then reads the caller's tensors in place, where planned
    inputs are copied into the arena at every call. Outputs are planned, as by default, because a
    runner in C++ would otherwise have to provide their memory; reading them there copies nothing.
    """
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    delegated, others = delegation(edge.exported_program().graph_module)
    planning = MemoryPlanningPass(alloc_graph_input=False)
    program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    # Arena 0 is reserved by the format and always empty.
    arenas = program.executorch_program.execution_plan[0].non_const_buffer_sizes
    return Lowered(program.buffer, delegated, others, sum(arenas))


def delegation(graph_module: Any) -> tuple[int, dict[str, int]]:
    """(operator calls inside delegates, calls outside by operator, most frequent first)."""
    from executorch.exir.delegate import executorch_call_delegate
    from executorch.exir.lowered_backend_module import LoweredBackendModule

    inside = 0
    outside: Counter[str] = Counter()
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            held = getattr(graph_module, node.target, None)
            if isinstance(held, LoweredBackendModule):
                inside += _calls(held.original_module.graph_module.graph)
        elif _is_call(node) and node.target is not executorch_call_delegate:
            outside[_operator_name(node.target)] += 1
    return inside, dict(outside.most_common())


def _calls(graph: Any) -> int:
    return sum(_is_call(node) for node in graph.nodes)


def _is_call(node: Any) -> bool:
    # getitem only unpacks a tuple; no kernel runs.
    return node.op == "call_function" and node.target is not operator.getitem


def _operator_name(target: Any) -> str:
    """As in "aten.native_layer_norm": the operator without its overload."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return str(getattr(target, "__name__", target))
    return str(schema.name).replace("::", ".")
