"""Plan → the user's own class with smaller layers, where that class can hold the result.

The pruned graph says what every parameter becomes and which sizes changed. A copy of the user's
module gets the parameters by name and the sizes by attribute; then both are run on random inputs.
Where they differ, the class cannot hold the plan, and the error names the line.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgeprune.blocks import blocks
from edgeprune.disagreement import Disagreement, first_disagreement
from edgeprune.dropping import chosen
from edgeprune.errors import PlanError
from edgeprune.graph import capture
from edgeprune.headscale import rescale, rescaled_queries
from edgeprune.hollow import hollow_out
from edgeprune.plans import Plan
from edgeprune.randomness import seeded
from edgeprune.records import Graph
from edgeprune.sizes import Unclear, resize_modules
from edgeprune.surgery import prune

TOLERANCE = 1e-4
"""The largest difference, relative to the largest output: other kernels may add in other order."""
NOISE = 0.02
"""What parameters are moved by for the comparison, lest a zero among them hide a difference."""
TRIALS = 64
"""How many ways to read unclear size attributes are tried."""

Example = Graph | Sequence[Tensor] | None


def to_module(
    model: nn.Module,
    plan: Plan,
    example: Example = None,
    weights: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of `model` with what `plan` removes gone: the same class, smaller layers.

    `example` is the graph that the plan was made for, captured from this very model, or the inputs
    to capture it with; None makes inputs as the plan remembers them. `weights` is the state dict of
    the pruned graph, if it was trained since. `model` stays as it was. A dropped block becomes
    `nn.Identity` where a module is the block, and a layer that gives zeros where a module is
    the branch. Raises PlanError, with the line, where the class cannot hold the plan.
    """
    graph = _graph(model, plan, example)
    try:
        smaller = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        raise PlanError(f"{type(model).__name__} cannot be copied: {error}") from error
    cut = prune(graph, replace(plan, dropped=()))
    trial = _Trial(model, graph, cut)
    trial.write(smaller, trial.moved)
    _settle(smaller, resize_modules(smaller, graph, cut), trial)
    dropped = chosen(blocks(graph), plan.dropped)
    for i in range(len(dropped)):
        names = tuple(block.name for block in dropped[: i + 1])
        goal = trial.without(prune(graph, replace(plan, dropped=names)))
        smaller = hollow_out(smaller, graph, dropped[i], goal.agrees)
    trial.write(smaller, {**trial.state, **(weights or {})})
    training = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = training.get(name, model.training)
    return smaller


class _Trial:
    """The comparison of a module with a pruned graph: on noise, and with noise on the parameters.

    `state` are the pruned graph's tensors, `moved` the same with noise added to the parameters.
    """

    def __init__(self, model: nn.Module, graph: Graph, cut: Graph) -> None:
        self.name = type(model).__name__
        self.state = _read(model, cut)
        self.inputs = _noise_like(graph)
        self.rescaled = rescaled_queries(graph, cut, self.inputs)
        parameters = dict(cut.program.named_parameters())
        with seeded(1):
            self.moved = {
                name: tensor + NOISE * torch.randn_like(tensor)
                if name in parameters and tensor.is_floating_point()
                else tensor
                for name, tensor in self.state.items()
            }
        for names in _places(model):  # tensors of one name each in the graph may be one here
            known = [name for name in names if name in self.moved]
            self.moved.update(dict.fromkeys(known, self.moved[known[0]]))
        self._aim(cut)

    def _aim(self, cut: Graph) -> None:
        program = copy.deepcopy(cut.program).eval()
        for name, tensor in _named(program).items():
            if name in self.moved:
                tensor.data = self.moved[name]
        self.cut = replace(cut, program=program)
        with torch.no_grad():
            self.wanted = _tensors(program(*self.inputs))

    def without(self, cut: Graph) -> _Trial:
        """The comparison with a graph that lacks more, with the same noise."""
        other = copy.copy(self)
        other._aim(cut)
        return other

    def write(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Give a module the tensors of a state that it has a place for."""
        fitting = rescale(state, self.rescaled)
        for names in _places(module):
            known = [name for name in names if name in fitting]
            if known:
                _put(module, names, fitting[known[0]])

    def agrees(self, module: nn.Module) -> bool:
        """Whether the module runs and gives what the graph gives."""
        try:
            with torch.no_grad():
                found = _tensors(module(*self.inputs))
        except Exception:  # whatever the user's code raises on sizes it was not made for
            return False
        return len(found) == len(self.wanted) and all(map(_close, found, self.wanted))

    def disagreement(self, module: nn.Module) -> Disagreement:
        """Where the module and the graph part."""
        return first_disagreement(module, self.inputs, self.cut, _close)


def _settle(module: nn.Module, unclear: Sequence[Unclear], trial: _Trial) -> None:
    """Choose among what unclear size attributes may be, so that the module agrees.

    Raises PlanError, with the line of the user's code that comes latest whatever is chosen, where
    nothing makes it agree.
    """
    options = itertools.product(*(one.options for one in unclear))
    choices = list(itertools.islice(options, TRIALS))
    for choice in choices:
        _choose(unclear, choice)
        if trial.agrees(module):
            return
    parted = []
    for choice in choices:
        _choose(unclear, choice)
        parted.append(trial.disagreement(module))
    latest = max(parted, key=lambda found: found.after)
    raise PlanError(
        f"{trial.name} cannot hold this plan: {latest.line} {latest.why}. Make that line follow "
        "the sizes of its inputs, keep those channels, or use the pruned graph itself "
        "(prune(graph, plan).module())"
    )


def _choose(unclear: Sequence[Unclear], choice: Sequence[Any]) -> None:
    for one, option in zip(unclear, choice, strict=True):
        one.choose(option)


def _graph(model: nn.Module, plan: Plan, example: Example) -> Graph:
    if isinstance(example, Graph):
        return example
    if example is None and not plan.inputs:
        raise PlanError(
            "the plan does not say what inputs the model takes: give to_module the graph, or "
            "example inputs, as in to_module(model, plan, (torch.randn(1, 3, 224, 224),))"
        )
    inputs = tuple(example) if example is not None else tuple(map(_remembered, plan.inputs))
    return capture(model, inputs, name=plan.model)


def _remembered(written: str) -> Tensor:
    """Zeros of the type and shape in "float32 1x3x224x224"."""
    name, _, shape = written.partition(" ")
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype):
        raise PlanError(f"inputs: {written!r} does not begin with a type of tensor, as float32")
    return torch.zeros([int(size) for size in shape.split("x")], dtype=kind)


def _noise_like(graph: Graph) -> tuple[Tensor, ...]:
    """Noise like the example inputs (which stay as they are where they are not real numbers)."""
    inputs = graph.example_inputs
    if graph.dynamic_batch:
        inputs = tuple(torch.cat([x, x]) for x in inputs)
    with seeded(0):
        return tuple(torch.randn_like(x) if x.is_floating_point() else x for x in inputs)


# --- tensors by name -------------------------------------------------------------------------


def _named(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared under every name."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _read(model: nn.Module, cut: Graph) -> dict[str, Tensor]:
    """The tensors of the pruned graph, without names of shared ones that it does not read."""
    nodes = cut.program.graph.nodes
    read = {str(node.target) for node in nodes if node.op == "get_attr"}
    left_over = {
        name
        for names in _places(model)
        if not read.isdisjoint(names)
        for name in names
        if name not in read
    }
    return {k: v.detach() for k, v in _named(cut.program).items() if k not in left_over}


def _places(module: nn.Module) -> list[list[str]]:
    """The names of every parameter and buffer, those of a shared one together."""
    found: dict[int, list[str]] = {}
    for name, tensor in _named(module).items():
        found.setdefault(id(tensor), []).append(name)
    return list(found.values())


def _put(module: nn.Module, names: Sequence[str], tensor: Tensor) -> None:
    """Replace a parameter or buffer under all its names by a copy of `tensor`."""
    new = tensor.detach().clone()
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        old = owner._parameters.get(leaf)
        if old is None:
            owner._buffers[leaf] = new
            continue
        if not isinstance(new, nn.Parameter):
            new = nn.Parameter(new, old.requires_grad)
        owner._parameters[leaf] = new


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def _close(a: Tensor, b: Tensor) -> bool:
    if not b.is_floating_point():
        return torch.equal(a, b)
    scale = float(b.abs().max()) if b.numel() else 0.0
    return not b.numel() or float((a - b).abs().max()) <= TOLERANCE * max(scale, 1e-12)
