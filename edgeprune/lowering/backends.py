"""The table of backends: which function lowers for which delegate, and in which data types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edgeprune.errors import LoweringError
from edgeprune.lowering.vendors import VENDORS
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

BACKEND_FILES = ("xnnpack", "coreml", "vulkan", "openvino", "ethos_u", "cortex_m")
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
class Needs:
    """What a backend needs that executorch does not bring everywhere: `module` is looked for,
    `extra` of edgeprune installs it. `apart` says why in an environment of its own, if it must."""

    module: str
    extra: str
    apart: str = ""


@dataclass(frozen=True)
class Programs:
    """What is true of a backend's programs: whether executorch's runtime on this machine executes
    them, and whether their inputs lie with channels last."""

    run_here: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class Backend:
    """One row of the table. `quantizer` makes what int8 programs are annotated by (torchao's
    PT2E `Quantizer`), None where the backend quantises by itself or has no int8."""

    name: str
    dtypes: tuple[str, ...]
    lower: LowerProgram
    quantizer: Callable[[Target], Any] | None = None
    needs: Needs | None = None
    programs: Programs = Programs()


_BACKENDS: dict[str, Backend] = {}


def backend(
    name: str,
    dtypes: tuple[str, ...],
    quantizer: Callable[[Target], Any] | None = None,
    needs: Needs | None = None,
    programs: Programs = Programs(),
) -> Callable[[LowerProgram], LowerProgram]:
    """Register the decorated function as the way to lower for `name` in `dtypes`."""

    def register(function: LowerProgram) -> LowerProgram:
        if name in _BACKENDS:
            raise ValueError(f"backend {name!r} is registered twice")
        _BACKENDS[name] = Backend(name, dtypes, function, quantizer, needs, programs)
        return function

    return register


def backend_names() -> list[str]:
    """The backends there are."""
    for file in BACKEND_FILES:
        import_module(f"edgeprune.lowering.{file}")
    return sorted(_BACKENDS)


def all_backends() -> list[Backend]:
    """Every row of the table, by name."""
    return [_BACKENDS[name] for name in backend_names()]


def backend_for(target: Target) -> Backend:
    """The backend that `target` names. Raises LoweringError naming those that exist, or the
    vendor's SDK where only that makes programs for it."""
    known = backend_names()
    found = _BACKENDS.get(target.backend)
    where = f"target {target.name!r}" + (f" ({target.source})" if target.source else "")
    if target.backend in VENDORS:
        raise LoweringError(f"{where}: {VENDORS[target.backend].refusal(target.backend)}")
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


def ready_backend(target: Target) -> Backend:
    """`backend_for`, found to be installed: to be asked before anything that takes long.

    Raises LoweringError that also says what to install.
    """
    found = backend_for(target)
    if found.needs is not None and not is_installed(found.needs):
        raise LoweringError(
            f"lowering for backend {found.name!r} needs {found.needs.module}, which is not "
            f"installed: {how_to_install(found.needs)}"
        )
    return found


def runs_here(target: Target) -> bool:
    """Whether this machine's runtime executes programs for `target`'s backend. Raises as
    `backend_for`."""
    return backend_for(target).programs.run_here


def without_int8(target: Target) -> Target:
    """`target` in fp32 where its backend has that, else as it is."""
    has_fp32 = "fp32" in backend_for(target).dtypes
    return replace(target, dtype="fp32") if has_fp32 else target


def is_installed(needs: Needs) -> bool:
    """Whether the module is there; it is not imported."""
    return find_spec(needs.module) is not None


def how_to_install(needs: Needs) -> str:
    """The command, and whether it wants an environment of its own."""
    command = f"pip install 'edgeprune[{needs.extra}]'"
    return f"{command}, {needs.apart}" if needs.apart else command
