"""The kernels that are priced, beside the nodes of a truly lowered program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgeprune.cost.pte_parts import take_apart
from edgeprune.cost.xnnpack_nodes import kernel_graph
from edgeprune.lowering import lower
from edgeprune.records import Graph, KernelKey, Target


def signature(node: dict, values: list) -> tuple:
    """The kind of an XNNPACK node and what it reads and writes: types, and sizes above one, in any
    order (the compiler may keep what is no image channels-last), without biases."""
    plain = [v["xvalue_union"][1] for v in values]
    plain = [value.get("tensor_value", value) for value in plain]
    tensors = {value.get("id_out", 0): value for value in plain}
    kind, fields = node["xnode_union"]
    ids = [i for f, i in fields.items() if f.endswith("_id") and f != "bias_id" and i != 2**32 - 1]
    # The format leaves out zeros, and a tensor may have that number.
    ids += [0] * (not {"input_id", "input1_id"} & set(fields)) + [0] * ("output_id" not in fields)
    sizes = [sorted(d for d in tensors[i].get("dims", ()) if d != 1) for i in ids]
    types = [tensors[i].get("datatype", 0) for i in ids]
    return kind, tuple(sorted(zip(types, map(tuple, sizes), strict=True)))


def priced(found: tuple[KernelKey, ...]) -> Counter:
    counts: Counter = Counter()
    for key in found:
        if key.op.startswith("portable:") or key.op == "delegate_call":
            counts[key.op.partition(":")[0]] += 1
            continue
        graph = kernel_graph(key)
        (node,) = graph.nodes
        counts[signature(node, graph.values)] += 1
    return counts


def lowered(graph: Graph, target: Target, path: Path) -> Counter:
    """The nodes of a truly lowered program; views, which are free to us, left out."""
    parts = take_apart(lower(graph, target, path).path.read_bytes())
    counts: Counter = Counter()
    for delegate in parts.graphs:
        for node in delegate["xnodes"]:
            if node["xnode_union"][0] != "XNNStaticReshape":
                counts[signature(node, delegate["xvalues"])] += 1
    (plan_of,) = parts.program["execution_plan"]
    for instruction in plan_of["chains"][0]["instructions"]:
        kind = instruction["instr_args"][0]
        counts["delegate_call" if kind == "DelegateCall" else "portable"] += 1
    return counts
