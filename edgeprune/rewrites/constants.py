"""What depends on constants alone is computed once, when the program is made.

Masks of shifted windows, tables of relative positions and the like are made anew in every call of
the eager model, piece by piece, from tensors that take nothing but their shape from the input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgeprune.rewriting import call

if TYPE_CHECKING:
    from torch import fx
    from torch._ops import OpOverload
    from torch.export import ExportedProgram

aten = torch.ops.aten

_PLAIN: dict[str, Any] = {"device": "meta", "memory_format": torch.contiguous_format}


def folded(program: ExportedProgram) -> ExportedProgram:
    """`program`, functional and of static shapes, with its constants computed.

    Tensors that only take another's shape count as constants after `shaped_like` was applied.
    """
    from executorch.exir.passes.constant_prop_pass import (
        constant_prop_pass,
        get_constant_placeholder_dict,
    )

    _in_order(program, get_constant_placeholder_dict(program))
    result: ExportedProgram = constant_prop_pass(program, custom_skip_targets=set())
    _made_plain(result)
    return result


def _made_plain(program: ExportedProgram) -> None:
    """Let every constant of `program` (changed) be no view, of a parameter or in another order.

    With dimensions of one element a tensor can be in order and its strides still tell another,
    which the runtime believes: it then takes an image's channels for its columns.
    """
    for node in program.graph.find_nodes(op="placeholder"):
        name = program.graph_signature.inputs_to_lifted_tensor_constants.get(node.name)
        value = program.constants.get(name) if name is not None else None
        if not isinstance(value, Tensor):
            continue
        if value.requires_grad or value.stride() != torch.empty_like(value, **_PLAIN).stride():
            plain = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
            program.constants[name] = plain
            node.meta["val"] = node.meta["val"].fake_mode.from_tensor(plain, static_shapes=True)


def shaped_like() -> Mapping[OpOverload, Callable[..., Any]]:
    """Operators that read only the shape of a tensor, as ones that read none."""

    def new(value: float) -> Callable[..., Tensor]:
        def make(x: Tensor, size: Any, *, dtype: Any = None, **other: Any) -> Tensor:
            return torch.full(size, value, dtype=dtype or x.dtype)

        return make

    def new_full(x: Tensor, size: Any, value: Any, *, dtype: Any = None, **other: Any) -> Tensor:
        return torch.full(size, value, dtype=dtype or x.dtype)

    def like(value: float) -> Callable[..., Tensor]:
        def make(x: Tensor, *, dtype: Any = None, **other: Any) -> Tensor:
            return torch.full(x.shape, value, dtype=dtype or x.dtype)

        return make

    def full_like(x: Tensor, value: Any, *, dtype: Any = None, **other: Any) -> Tensor:
        return torch.full(x.shape, value, dtype=dtype or x.dtype)

    return {
        aten.new_zeros.default: new(0),
        aten.new_ones.default: new(1),
        aten.new_full.default: new_full,
        aten.zeros_like.default: like(0),
        aten.ones_like.default: like(1),
        aten.full_like.default: full_like,
    }


def _in_order(program: ExportedProgram, constants: Collection[fx.Node]) -> None:
    """Let copies of constants be reshapes in `program` (changed): upstream's pass leaves calls that
    name a memory format, as every copy does. To one dimension and back is in order as well."""
    known = set(constants)
    for node in list(program.graph.nodes):
        if node.op != "call_function" or not known.issuperset(node.all_input_nodes):
            continue
        known.add(node)
        if node.target is not aten.clone.default:
            continue
        with program.graph.inserting_before(node):
            flat = call(program.graph, aten.reshape.default, node.args[0], [-1], like=node)
            made = call(
                program.graph, aten.reshape.default, flat, list(node.meta["val"].shape), like=node
            )
        known.update((flat, made))
        node.replace_all_uses_with(made)
        program.graph.erase_node(node)
