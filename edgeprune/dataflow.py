"""Who needs what in a graph: dependences between nodes, changes in place included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from torch import fx


class Dataflow:
    """The dependences of one graph, as it is now.

    A node needs its arguments, and every operation that changed an argument in place before.
    `order` is the position of every node; `from_input` the nodes that hold tensors computed from
    the model's inputs (sizes of tensors do not count).
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self._roots: dict[fx.Node, fx.Node] = {}
        self._changes: dict[fx.Node, list[fx.Node]] = defaultdict(list)
        self.needs: dict[fx.Node, set[fx.Node]] = {}
        self.users: dict[fx.Node, set[fx.Node]] = {node: set() for node in self.order}
        self.from_input: set[fx.Node] = set()
        for node in self.order:
            self._add(node)

    def _add(self, node: fx.Node) -> None:
        needs = set(node.all_input_nodes)
        for source in node.all_input_nodes:
            needs.update(self._changes[self._roots[source]])
        self.needs[node] = needs
        for source in needs:
            self.users[source].add(node)
        shared = _shared(node)
        self._roots[node] = self._roots[shared] if shared is not None else node
        for changed in _changed(node):
            self._changes[self._roots[changed]].append(node)
        if node.op == "placeholder" or (
            node.meta.get("shape") is not None and not self.from_input.isdisjoint(needs)
        ):
            self.from_input.add(node)

    def between(self, start: fx.Node, end: fx.Node) -> set[fx.Node]:
        """The nodes on paths of tensors from `start` (not included) to `end` (included)."""
        first = self.order[start]
        if self.order[end] <= first:
            return set()
        leads, waiting = {end}, [end]
        while waiting:
            for source in self.needs[waiting.pop()]:
                if self.order[source] > first and source not in leads:
                    leads.add(source)
                    waiting.append(source)
        found: set[fx.Node] = set()
        for node in sorted(leads, key=self.order.__getitem__):
            if node.meta.get("shape") is not None and any(
                source is start or source in found for source in self.needs[node]
            ):
                found.add(node)
        return found

    def is_closed(self, nodes: set[fx.Node], end: fx.Node) -> bool:
        """Whether `end` is among `nodes`, nothing else reads the others, and what they change in
        place is their own."""
        return (
            end in nodes
            and all(self.users[node] <= nodes for node in nodes if node is not end)
            and all(self._roots[changed] in nodes for node in nodes for changed in _changed(node))
        )

    def sources(self, nodes: set[fx.Node]) -> set[fx.Node]:
        """What `nodes` read that is computed from constants only: parameters, tables, indices."""
        waiting, seen = list(nodes), set(nodes)
        while waiting:
            new = self.needs[waiting.pop()] - seen - self.from_input
            seen |= new
            waiting += new
        return seen - nodes

    def without(self, cuts: Iterable[tuple[fx.Node, fx.Node]]) -> list[fx.Node]:
        """The nodes nobody needs once each `reader` of (reader, source) no longer reads `source`.

        In the graph's order. Inputs of the model stay.
        """
        cut = set(cuts)
        gone: set[fx.Node] = set()
        waiting = {source for _, source in cut}
        while waiting:
            node = max(waiting, key=self.order.__getitem__)
            waiting.remove(node)
            alive = (u for u in self.users[node] if u not in gone and (u, node) not in cut)
            if node.op != "placeholder" and next(alive, None) is None:
                gone.add(node)
                waiting |= self.needs[node]
        return sorted(gone, key=self.order.__getitem__)


def parameter_sizes(program: fx.GraphModule) -> dict[str, int]:
    """How many numbers each parameter holds."""
    return {name: p.numel() for name, p in program.named_parameters(remove_duplicate=False)}


class Readers:
    """Which nodes read which parameters and buffers of a program."""

    def __init__(self, program: fx.GraphModule) -> None:
        self._nodes: dict[str, set[fx.Node]] = defaultdict(set)
        for node in program.graph.nodes:
            if node.op == "get_attr":
                self._nodes[str(node.target)].add(node)
        self._read: dict[str, set[str]] = defaultdict(set)
        for name in self._nodes:
            self._read[owner(name)].add(name)
        self._held: dict[str, list[str]] = defaultdict(list)
        for named in (program.named_parameters, program.named_buffers):
            for name, _ in named(remove_duplicate=False):
                self._held[owner(name)].append(name)

    def unread(self, gone: set[fx.Node]) -> set[str]:
        """Names of tensors that nothing reads once the nodes in `gone` are away.

        A module's tensors that were never read (counters of batch norms) go with its last one that
        was.
        """
        lost = {str(node.target) for node in gone if node.op == "get_attr"}
        lost = {name for name in lost if self._nodes[name] <= gone}
        emptied = {home for home in map(owner, lost) if self._read[home] <= lost}
        return {
            name
            for home in set(map(owner, lost))
            for name in self._held[home]
            if name in lost or home in emptied
        }


def owner(name: str) -> str:
    """The path of the module that a parameter or buffer belongs to."""
    return name.rpartition(".")[0]


def _shared(node: fx.Node) -> fx.Node | None:
    """The argument whose storage a node's result may share."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # operator.getitem: one of several views
        return node.args[0]
    # in eval mode a dropout hands back its very input, which its schema does not say
    shares = "dropout" in schema.name or any(r.alias_info is not None for r in schema.returns)
    return node.args[0] if shares else None


def _changed(node: fx.Node) -> list[fx.Node]:
    """The arguments that a node changes in place."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    return [
        given
        for argument, given in zip(schema.arguments, node.args, strict=False)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and isinstance(given, fx.Node)
    ]
