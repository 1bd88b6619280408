"""Ops that fall out of the delegate: ExecuTorch's own kernels run them, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from edgeprune.cost.walk import Dims, Walk, rule
from edgeprune.records import Extent

aten = torch.ops.aten

PREFIX = "portable:"


_Spelled = tuple[Any, list[Any]]
_SPELLED: dict[Any, Callable[[Walk, fx.Node], _Spelled]] = {}


def spelled(*targets: Any) -> Callable[[Any], Any]:
    """Registers how a call is written so that its sizes follow from widths; twice raises.

    The function returns the op to call and its arguments, in which dimensions stand as they are.
    """

    def register(function: Callable[[Walk, fx.Node], _Spelled]) -> Any:
        for target in targets:
            if target in _SPELLED:
                raise ValueError(f"{target} is spelled twice")
            _SPELLED[target] = function
        return function

    return register


@rule("outside")
def outside(walk: Walk, node: fx.Node) -> None:
    """The op as a kernel of its own: its tensors' shapes, and the call as JSON to repeat it.

    In the call a tensor stands as {"tensor": i}, in the order of the shapes, and a list of sizes
    that follow from widths as {"sizes": i}, being one of the shapes as well.
    """
    shapes: list[Dims] = []
    spell = _SPELLED.get(node.target)
    target, given = spell(walk, node) if spell is not None else (node.target, list(node.args))
    arguments = [_plain(walk, arg, shapes) for arg in given]
    named = {key: _plain(walk, arg, shapes) for key, arg in sorted(node.kwargs.items())}
    for source in walk.computed(node):
        walk.leave(source)
    call = json.dumps([arguments, named])
    walk.emit(f"{PREFIX}{target}", [node], shapes, call=call)
    walk.write_outside(node)


@spelled(aten.layer_norm.default)
def _layer_norm(walk: Walk, node: fx.Node) -> _Spelled:
    """What is normalised are the last dimensions of the input."""
    source, shape, *rest = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(shape, list | tuple)
    return node.target, [source, walk.dims(source)[-len(shape) :], *rest]


@spelled(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.split.sizes)
def _split(walk: Walk, node: fx.Node) -> _Spelled:
    """Into the sizes that the parts have, whichever of them is read."""
    source = walk.source(node)
    rank = len(walk.dims(source))
    axis = int(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % rank  # type: ignore[arg-type]
    parts = {user.args[1]: user for user in node.users}
    if set(parts) != set(range(len(parts))):
        return node.target, list(node.args)
    sizes = tuple(walk.dims(parts[i])[axis] for i in range(len(parts)))
    return aten.split_with_sizes.default, [source, sizes, axis]


def _plain(walk: Walk, arg: Any, shapes: list[Dims]) -> Any:
    if walk.is_tensor(arg):
        shapes.append(walk.dims(arg))
        return {"tensor": len(shapes) - 1}
    if isinstance(arg, fx.Node):
        # The training flag, or the batch size (sym_size): evaluation, one image.
        return False if arg.op == "get_attr" else 1
    if isinstance(arg, tuple) and arg and all(isinstance(item, Extent) for item in arg):
        shapes.append(arg)
        return {"sizes": len(shapes) - 1}
    if isinstance(arg, list | tuple):
        return [_plain(walk, item, shapes) for item in arg]
    if arg is None or isinstance(arg, bool | int | float | str):
        return arg
    return str(arg)
