"""Residual blocks: every branch whose input and output are added, found in the graph.

An addition `a + f(a)` has a branch f where one operand is computed from the other, or from a term
of the other when that is a sum itself (`x + f(x) + g(x)`), and nothing between the two is read
anywhere else. Such a branch can go: the addition then is its other operand, exactly as if the
branch were zero. A shortcut with a projection, a stride or padding of its own is no operand of the
branch's input, and is therefore not found.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import fx

from edgeprune.dataflow import Dataflow, Readers, owner, parameter_sizes
from edgeprune.graph import module_path
from edgeprune.records import Block, Graph

aten = torch.ops.aten

_ADDITIONS = (aten.add.Tensor,)
_KNOWN: weakref.WeakKeyDictionary[fx.GraphModule, tuple[Block, ...]] = weakref.WeakKeyDictionary()


def blocks(graph: Graph) -> tuple[Block, ...]:
    """The residual blocks of a graph, in order of execution; nested ones are each their own.

    A branch counts if it keeps the shape, reads a parameter, and changes nothing outside itself.
    Names are module paths, as "layer1.1" or "encoder.layers.encoder_layer_3.mlp".
    """
    found = _KNOWN.get(graph.program)
    if found is None:
        found = _KNOWN[graph.program] = _found(graph.program)
    return found


def _found(program: fx.GraphModule) -> tuple[Block, ...]:
    flow = Dataflow(program.graph)
    parameters, readers = parameter_sizes(program), Readers(program)
    pairs = [
        (node, branch)
        for node in flow.order
        if node.target in _ADDITIONS
        for branch in [_branch_of(node, flow, parameters)]
        if branch is not None
    ]
    dead = [flow.without([(add, branch)]) for add, branch in pairs]
    read = [_read(nodes, parameters) for nodes in dead]
    names = _names([(add, sizes) for (add, _), sizes in zip(pairs, read, strict=True)])
    return tuple(
        Block(
            name,
            add.name,
            branch.name,
            tuple(node.name for node in nodes),
            tuple(sorted(readers.unread(set(nodes)))),
        )
        for name, (add, branch), nodes in zip(names, pairs, dead, strict=True)
    )


def _branch_of(add: fx.Node, flow: Dataflow, parameters: dict[str, int]) -> fx.Node | None:
    """The operand of an addition that is a branch of the other operand, if one is."""
    operands = add.args[:2]
    for stays, goes in (operands, operands[::-1]):
        if not isinstance(stays, fx.Node) or not isinstance(goes, fx.Node):
            continue
        if stays is operands[1] and add.kwargs.get("alpha", 1) != 1:
            continue  # the shortcut itself is scaled
        if not _shape(stays) == _shape(goes) == _shape(add) or flow.users[goes] != {add}:
            continue
        for term in _terms(stays, flow):
            between = flow.between(term, goes)
            if flow.is_closed(between, goes) and _read(flow.sources(between), parameters):
                return goes
    return None


def _terms(operand: fx.Node, flow: Dataflow) -> Iterable[fx.Node]:
    """What an operand is a sum of: itself, and the operands of the additions that make it."""
    waiting, seen = [operand], {operand}
    while waiting:
        node = waiting.pop(0)
        if node not in flow.from_input:
            continue
        yield node
        if node.target in _ADDITIONS:
            new = [n for n in node.args[:2] if isinstance(n, fx.Node) and n not in seen]
            seen.update(new)
            waiting += new


def _read(nodes: Iterable[fx.Node], parameters: dict[str, int]) -> dict[str, int]:
    """The parameters that these nodes are, with their sizes."""
    names = [str(node.target) for node in nodes if node.op == "get_attr"]
    return {name: parameters[name] for name in names if name in parameters}


def _shape(node: fx.Node) -> object:
    return node.meta.get("shape")


# --- names -----------------------------------------------------------------------------------


def _names(found: Sequence[tuple[fx.Node, dict[str, int]]]) -> list[str]:
    """A name for each (addition, sizes of its branch's parameters): the module the addition is in,
    with the child that weighs most where one module has several additions."""
    homes = [module_path(add) or _common(sizes) for add, sizes in found]
    several = Counter(homes)
    names = []
    for (add, sizes), home in zip(found, homes, strict=True):
        child = _heaviest(home, sizes) if several[home] > 1 or not home else ""
        names.append(".".join(part for part in (home, child) if part) or add.name)
    repeated, taken = Counter(names), Counter[str]()
    for i, name in enumerate(names):
        if repeated[name] > 1:
            taken[name] += 1
            names[i] = f"{name}#{taken[name]}"
    return names


def _common(sizes: dict[str, int]) -> str:
    """The innermost module that holds all of these parameters."""
    paths = [owner(name).split(".") for name in sizes]
    if not paths:
        return ""
    short = min(map(len, paths))
    same = next((i for i in range(short) if len({p[i] for p in paths}) > 1), short)
    return ".".join(paths[0][:same])


def _heaviest(home: str, sizes: dict[str, int]) -> str:
    """The child of a module that has the most of these parameters."""
    weight: Counter[str] = Counter()
    prefix = f"{home}." if home else ""
    for name, size in sizes.items():
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and "." in rest:
            weight[rest.split(".")[0]] += size
    return weight.most_common(1)[0][0] if weight else ""
