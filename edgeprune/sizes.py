"""The attributes of modules that name sizes: `in_channels`, `num_heads` and the like.

Layers of torch.nn have a function each. In the user's own modules, an integer attribute follows
where it stands among the constants of the graph that the module was traced to, and those changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgeprune.graph import module_path
from edgeprune.records import Graph

aten = torch.ops.aten
Calls = list[tuple[fx.Node, fx.Node]]
"""What a module was traced to: each node of the full graph with that of the cut one."""
Resize = Callable[[Any, Calls], None]
_SIZES: dict[type[nn.Module], Resize] = {}


@dataclass(frozen=True)
class Unclear:
    """Attributes that may name any of several sizes: all modules of a class alike."""

    places: tuple[nn.Module, ...]
    attribute: str
    options: tuple[Any, ...]

    def choose(self, option: Any) -> None:
        for module in self.places:
            setattr(module, self.attribute, option)


def sizes(*kinds: type[nn.Module]) -> Callable[[Resize], Resize]:
    """Register how the size attributes of a layer, whose tensors are already replaced, follow."""

    def register(function: Resize) -> Resize:
        for kind in kinds:
            if kind in _SIZES:
                raise ValueError(f"{kind.__name__} is already registered")
            _SIZES[kind] = function
        return function

    return register


def resize_modules(model: nn.Module, graph: Graph, cut: Graph) -> list[Unclear]:
    """Set all size attributes of `model` to what they are in the cut graph; returns what is left
    to be tried."""
    calls = _calls(graph, cut)
    unclear: dict[tuple[type[nn.Module], str, tuple[Any, ...]], list[nn.Module]] = defaultdict(list)
    for path, module in model.named_modules():
        follow = next((_SIZES[kind] for kind in type(module).__mro__ if kind in _SIZES), None)
        if follow is not None:
            follow(module, calls[path])
            continue
        for attribute, options in _own_sizes(module, calls[path]):
            if len(options) == 1:
                setattr(module, attribute, options[0])
            else:
                unclear[type(module), attribute, options].append(module)
    return [Unclear(tuple(places), name, opts) for (_, name, opts), places in unclear.items()]


# --- layers of torch.nn ----------------------------------------------------------------------


@sizes(nn.modules.conv._ConvNd)
def convolution(module: Any, calls: Calls) -> None:
    module.groups = next((_groups(new, module.groups) for _, new in calls), module.groups)
    first, second = module.weight.shape[0], module.weight.shape[1] * module.groups
    produced, consumed = (second, first) if module.transposed else (first, second)
    module.out_channels, module.in_channels = produced, consumed


def _groups(node: fx.Node, groups: int) -> int:
    """The number of groups that a convolution is called with."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    if "groups" not in names:
        return groups
    place = names.index("groups")
    given = node.args[place] if place < len(node.args) else node.kwargs.get("groups", 1)
    return int(given)  # type: ignore[arg-type]


@sizes(nn.Linear)
def linear(module: nn.Linear, calls: Calls) -> None:
    module.out_features, module.in_features = module.weight.shape


@sizes(nn.Bilinear)
def bilinear(module: nn.Bilinear, calls: Calls) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


@sizes(nn.modules.batchnorm._NormBase)
def batch_norm(module: Any, calls: Calls) -> None:
    for tensor in (module.weight, module.running_mean):
        if tensor is not None:
            module.num_features = tensor.shape[0]


@sizes(nn.LayerNorm, nn.RMSNorm)
def layer_norm(module: Any, calls: Calls) -> None:
    if module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)
    else:
        for _, new in calls:
            if new.target in (aten.layer_norm.default, aten.rms_norm.default):
                module.normalized_shape = tuple(new.args[1])  # type: ignore[arg-type]


@sizes(nn.GroupNorm)
def group_norm(module: nn.GroupNorm, calls: Calls) -> None:
    for _, new in calls:
        if new.target is aten.group_norm.default:
            module.num_groups = int(new.args[1])  # type: ignore[arg-type]
            module.num_channels = _channels(new, module.num_channels)


def _channels(node: fx.Node, otherwise: int) -> int:
    shape = node.meta.get("shape")
    return int(shape[1]) if shape else otherwise


@sizes(nn.Embedding, nn.EmbeddingBag)
def embedding(module: Any, calls: Calls) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


@sizes(nn.RNNBase)
def recurrent(module: Any, calls: Calls) -> None:
    """Setting each weight again also renews the list that the layer runs on."""
    module.hidden_size = module.weight_hh_l0.shape[1]
    module.input_size = module.weight_ih_l0.shape[1]
    for name in module._flat_weights_names:
        setattr(module, name, getattr(module, name))


@sizes(nn.PReLU)
def prelu(module: nn.PReLU, calls: Calls) -> None:
    module.num_parameters = module.weight.numel()


@sizes(nn.MultiheadAttention)
def multihead_attention(module: nn.MultiheadAttention, calls: Calls) -> None:
    """It has one width for its input and for its heads: a plan that gives it two does not fit."""
    module.embed_dim = module.out_proj.weight.shape[0]
    for name, weight in (("kdim", module.k_proj_weight), ("vdim", module.v_proj_weight)):
        setattr(module, name, module.embed_dim if weight is None else weight.shape[1])
    found = {new for old, new in _constants(calls) if old == module.num_heads and new != old}
    if len(found) == 1:
        module.num_heads = found.pop()
    module.head_dim = module.embed_dim // module.num_heads


# --- modules of the user ---------------------------------------------------------------------


def _own_sizes(module: nn.Module, calls: Calls) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Integer attributes that stand among constants that changed, with what they may be now."""
    became: dict[int, list[int]] = defaultdict(list)
    for old, new in _constants(calls):
        if new not in became[old]:
            became[old].append(new)
    changed: Mapping[int, list[int]] = {
        old: sorted(news, key=lambda new: new == old)  # what changed first
        for old, news in became.items()
        if news != [old]
    }
    for name, value in vars(module).items():
        if type(value) is int and value in changed:
            yield name, tuple(changed[value])
        elif type(value) in (tuple, list) and all(type(v) is int for v in value):
            followed = type(value)(changed.get(v, [v])[0] for v in value)
            if followed != value:
                yield name, (followed,)


def _constants(calls: Calls) -> Iterator[tuple[int, int]]:
    """The integers in the arguments of calls, each before and after."""
    for old, new in calls:  # a call that got an argument more (a scale) has it last
        yield from zip(
            _integers((old.args, old.kwargs)), _integers((new.args, new.kwargs)), strict=False
        )


def _integers(tree: Any) -> Iterable[int]:
    if type(tree) is int:
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, tuple | list):
        return [number for item in tree for number in _integers(item)]
    return []


def _calls(graph: Graph, cut: Graph) -> dict[str, Calls]:
    after = {node.name: node for node in cut.program.graph.nodes}
    found: dict[str, Calls] = defaultdict(list)
    for node in graph.program.graph.nodes:
        if node.op == "call_function" and node.name in after:
            found[module_path(node)].append((node, after[node.name]))
    return found
