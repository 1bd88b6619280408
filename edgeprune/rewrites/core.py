"""The table of rewrites and the one pass that applies them.

A rewrite is a function with the arguments of an ATen operator that computes the same result from
operators that the delegate takes, or returns NotImplemented where it cannot or need not. The pass
is `torch.export`'s own decomposition, which traces the functions into the program; afterwards
whatever depends on constants alone is computed once and kept as a constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeprune.errors import LoweringError
from edgeprune.reasons import reason_of

if TYPE_CHECKING:
    from torch._ops import OpOverload
    from torch.export import ExportedProgram

REWRITE_FILES = (
    "attention",
    "dimensions",
    "movement",
    "numbers",
    "pooling",
    "products",
    "reduction",
    "volumes",
)
"""The modules of this package that register rewrites."""

FOLDED = "constants"
"""The name under which folded constants are counted."""

Rewrite = Callable[..., Any]

_REWRITES: dict[OpOverload, tuple[str, Rewrite]] = {}


def rewrite(name: str, *operators: OpOverload) -> Callable[[Rewrite], Rewrite]:
    """Register the decorated function as the rewrite `name` of each of `operators`."""

    def register(function: Rewrite) -> Rewrite:
        for operator in operators:
            if operator in _REWRITES:
                raise ValueError(f"{operator} has two rewrites")
            _REWRITES[operator] = (name, function)
        return function

    return register


def rewrites() -> Mapping[OpOverload, Rewrite]:
    """Every rewrite by the operator that it is for."""
    for file in REWRITE_FILES:
        import_module(f"edgeprune.rewrites.{file}")
    return {operator: made for operator, (_, made) in _REWRITES.items()}


def rewritten(exported: ExportedProgram) -> tuple[ExportedProgram, Mapping[str, int]]:
    """(`exported` with every rewrite applied, how often each was, by name).

    `exported` must have static shapes; it is not changed, and given back where there is nothing to
    rewrite. Values agree up to rounding. Raises LoweringError where upstream refuses.
    """
    try:
        return _rewritten(exported)
    except Exception as error:  # tracing raises many kinds
        raise LoweringError(
            f"the network could not be rewritten for its delegate: {reason_of(error)}. "
            "--no-rewrite (rewrite = false in the target) leaves it as it is"
        ) from error


def _rewritten(exported: ExportedProgram) -> tuple[ExportedProgram, Mapping[str, int]]:
    from edgeprune.rewrites.attention import unguarded
    from edgeprune.rewrites.constants import folded, shaped_like
    from edgeprune.rewrites.dimensions import unviewed
    from edgeprune.rewrites.movement import reshaped, unexpanded
    from edgeprune.rewrites.needed import needed
    from edgeprune.rewrites.numbers import NUMBERS, in_floating_point

    if not needed(exported.graph, exported.graph_signature.user_inputs):
        return exported, {}
    # Functional first: a constant may be filled piece by piece, and folding knows no mutation.
    program = exported.run_decompositions(shaped_like())
    before = _calls(program)
    program = folded(program)
    saved = before.total() - _calls(program).total()
    unguarded(program)
    unexpanded(program)
    whole = in_floating_point(program)
    reshaped(program)
    program = folded(program.run_decompositions({**shaped_like(), **rewrites()}))
    unviewed(program)
    applied = Counter({FOLDED: saved, NUMBERS: whole})
    for operator, number in (before - _calls(program)).items():
        if operator in _REWRITES:
            applied[_REWRITES[operator][0]] += number
    return program, {name: number for name, number in sorted(applied.items()) if number}


def _calls(program: ExportedProgram) -> Counter[Any]:
    """How often each operator is called."""
    return Counter(node.target for node in program.graph.nodes if node.op == "call_function")
