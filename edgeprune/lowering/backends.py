"""The table of backends: which function lowers for which delegate, and in which data types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeprune.errors import LoweringError
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

BACKEND_FILES = ("xnnpack", "ethos_u")
"""The modules of this package that register backends."""


@dataclass(frozen=True)
class Lowered:
    """A program in memory and what was delegated in it, from the lowered graph.

    `beside` are texts to be kept with it, by the suffix that their files have after the program's
    name: what a compiler said that cannot be read from the program itself.
    """

    program: bytes
    delegated_nodes: int
    other_ops: Mapping[str, int] = field(default_factory=dict)
    planned_bytes: int = 0
    rewrites: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


LowerProgram = Callable[["ExportedProgram", Target], Lowered]


@dataclass(frozen=True)
class Backend:
    """One row of the table. `quantizer` makes what int8 programs are annotated by (torchao's
    PT2E `Quantizer`), None where the backend quantises by itself or has no int8."""

    name: str
    dtypes: tuple[str, ...]
    lower: LowerProgram
    quantizer: Callable[[], Any] | None = None


_BACKENDS: dict[str, Backend] = {}


def backend(
    name: str, dtypes: tuple[str, ...], quantizer: Callable[[], Any] | None = None
) -> Callable[[LowerProgram], LowerProgram]:
    """Register the decorated function as the way to lower for `name` in `dtypes`."""

    def register(function: LowerProgram) -> LowerProgram:
        if name in _BACKENDS:
            raise ValueError(f"backend {name!r} is registered twice")
        _BACKENDS[name] = Backend(name, dtypes, function, quantizer)
        return function

    return register


def backend_names() -> list[str]:
    """The backends there are."""
    for file in BACKEND_FILES:
        import_module(f"edgeprune.lowering.{file}")
    return sorted(_BACKENDS)


def backend_for(target: Target) -> Backend:
    """The backend that `target` names. Raises LoweringError naming those that exist."""
    known = backend_names()
    found = _BACKENDS.get(target.backend)
    where = f"target {target.name!r}" + (f" ({target.source})" if target.source else "")
    if found is None:
        raise LoweringError(
            f"{where} asks for backend {target.backend!r}, which edgeprune cannot lower for; "
            f"backends: {', '.join(known)}"
        )
    if target.dtype not in found.dtypes:
        raise LoweringError(
            f"{where} asks for dtype {target.dtype!r}, which backend {found.name!r} does not "
            f"have here; dtypes: {', '.join(found.dtypes)}"
        )
    return found
