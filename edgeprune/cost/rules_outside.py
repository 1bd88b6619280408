"""Ops that fall out of the delegate: ExecuTorch's own kernels run them, one by one."""

from __future__ import annotations

import json
from typing import Any

from torch import fx

from edgeprune.cost.walk import Dims, Walk, rule

PREFIX = "portable:"


@rule("outside")
def outside(walk: Walk, node: fx.Node) -> None:
    """The op as a kernel of its own: its tensors' shapes, and the call as JSON to repeat it.

    In the call a tensor stands as {"tensor": i}, in the order of the shapes.
    """
    shapes: list[Dims] = []
    arguments = [_plain(walk, arg, shapes) for arg in node.args]
    named = {key: _plain(walk, arg, shapes) for key, arg in sorted(node.kwargs.items())}
    for source in walk.computed(node):
        walk.leave(source)
    call = json.dumps([arguments, named])
    walk.emit(f"{PREFIX}{node.target}", [node], shapes, call=call)
    walk.write_outside(node)


def _plain(walk: Walk, arg: Any, shapes: list[Dims]) -> Any:
    if walk.is_tensor(arg):
        shapes.append(walk.dims(arg))
        return {"tensor": len(shapes) - 1}
    if isinstance(arg, fx.Node):
        # The training flag, or the batch size (sym_size): evaluation, one image.
        return False if arg.op == "get_attr" else 1
    if isinstance(arg, list | tuple):
        return [_plain(walk, item, shapes) for item in arg]
    if arg is None or isinstance(arg, bool | int | float | str):
        return arg
    return str(arg)
